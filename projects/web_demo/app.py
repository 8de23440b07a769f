"""Play with a trained generator in the browser.

    python projects/web_demo/app.py
    python projects/web_demo/app.py WORK_DIR
    python projects/web_demo/app.py CONFIG CHECKPOINT

The default model is rc_track_64, which comes with the package.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from web_demo.studio import Studio

from stylegan_v_mm.cli import (
    frame_count,
    real_number,
    run_tool,
    tool_parser,
    whole_number,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import VideoGANInferencer


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'model',
        nargs='?',
        default='rc_track_64',
        help='config file, work dir, name of a trained model, or OWNER/NAME '
        'on the hub',
    )
    parser.add_argument(
        'checkpoint', nargs='?', help='only needed if the model is a config'
    )
    parser.add_argument(
        '--port',
        type=whole_number(0, 65535),
        default=7860,
        help='0 for any',
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='0.0.0.0 opens the page to the network; default: this machine',
    )
    parser.add_argument('--device', help='cuda or cpu; found if not given')
    parser.add_argument(
        '--max-frames', type=frame_count, default=256, help='longest video'
    )
    parser.add_argument(
        '--time-limit',
        type=real_number(1, 1e6),
        default=60,
        help='seconds a request',
    )
    return parser.parse_args()


def main() -> None:
    """Parse the command line and serve the page."""
    args = parse_args()
    # Delete the files of visitors, however the server ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory() as folder:
        # gradio reads these when it is imported: where to keep files, and not
        # to report usage.
        os.environ['GRADIO_TEMP_DIR'] = folder
        os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
        try:
            from web_demo.live import Live
            from web_demo.page import build_page
            from web_demo.server import listen, serve
        except ImportError as error:
            raise InputError(
                f'{error}: pip install -c requirements/constraints.txt gradio'
            ) from error
        with listen(args.host, args.port) as listener:
            gan = VideoGANInferencer(args.model, args.checkpoint, args.device)
            studio = Studio(
                gan, Path(folder), args.max_frames, args.time_limit
            )
            # Visitors need not know the path of the file.
            name = '/'.join(Path(gan.checkpoint).parts[-2:])
            page = build_page(studio, f'{name}, {studio.resolution} px')
            host, port = listener.getsockname()[:2]
            print(f'http://{host}:{port}', flush=True)
            serve(page, Live(studio), listener)


if __name__ == '__main__':
    run_tool(main)
