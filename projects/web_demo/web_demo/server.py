"""Serving the page, by default to this machine, without foreign resources."""

import asyncio
import re
import socket

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio import routes
from jinja2 import FileSystemLoader
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from stylegan_v_mm.errors import InputError

from .live import Live, add_live

#: Largest request in bytes; a request is a list of a few numbers.
MAX_REQUEST = 2**16
#: Seconds that a request may take to arrive.
MAX_WAIT = 10
#: Most connections at a time; each page keeps a few open.
MAX_CONNECTIONS = 256
#: The browser may load resources from this server only.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
# Routes of gradio that this page does not need: uploads and the proxy.
CLOSED = re.compile('/gradio_api/(upload|proxy=)')
FOREIGN = re.compile(r'<(script|link)\s[^>]*"https://[^>]*>(</script>)?')


class OfflineLoader(FileSystemLoader):
    """Read gradio's page without scripts and fonts from other servers."""

    def get_source(self, environment, template):
        """Read a template."""
        source, *rest = super().get_source(environment, template)
        return FOREIGN.sub('', source), *rest


class Guard:
    """Pass on only the requests that the page needs.

    Args:
        app: ASGI application.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Answer a request."""
        app = self.app
        if scope['type'] == 'http':
            if CLOSED.match(scope['path']):
                app = PlainTextResponse('not here', 403)
            elif scope['method'] == 'POST':
                length = Headers(scope=scope).get('content-length', '')
                if not length.isdecimal() or int(length) > MAX_REQUEST:
                    app = PlainTextResponse('too long', 413)
                else:
                    try:
                        first = await asyncio.wait_for(
                            whole(receive), MAX_WAIT
                        )
                        receive = followed_by([first], receive)
                    except asyncio.TimeoutError:
                        app = PlainTextResponse('too slow', 408)

        async def send_with_policy(message):
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                headers['Content-Security-Policy'] = POLICY
            await send(message)

        await app(scope, receive, send_with_policy)


async def whole(receive):
    """Wait for a request's whole body; return it as one message."""
    body = b''
    while True:
        message = await receive()
        if message['type'] != 'http.request':
            return message
        body += message.get('body', b'')
        if not message.get('more_body'):
            return {'type': 'http.request', 'body': body}


def followed_by(messages, receive):
    """Return a function that receives ``messages`` first, then the rest."""

    async def receive_next():
        return messages.pop(0) if messages else await receive()

    return receive_next


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Args:
        host (str): Address.
        port (int): Port number; 0 for any free port.

    Returns:
        socket.socket: The bound socket.

    Raises:
        InputError: The port is taken, or there is no such address.
    """
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise InputError(
            f'--host {host} --port {port} cannot be opened: {error}'
        ) from None


def serve(page: gr.Blocks, live: Live, listener: socket.socket) -> None:
    """Serve a page until the process is told to stop.

    Args:
        page (gr.Blocks): From ``build_page``.
        live (Live): What its live tab shows.
        listener (socket.socket): From :func:`listen`.
    """
    routes.templates.env.loader = OfflineLoader(routes.STATIC_TEMPLATE_LIB)
    app = FastAPI()
    add_live(app, live)
    app = gr.mount_gradio_app(app, page, '/', show_error=False)
    app.add_middleware(Guard)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level='warning',
            limit_concurrency=MAX_CONNECTIONS,
            ws_max_size=MAX_REQUEST,
            timeout_graceful_shutdown=1,
        )
    )
    server.run(sockets=[listener])
