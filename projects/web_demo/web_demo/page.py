"""The page: its controls, and what they do."""

import html
import inspect
import random
from collections.abc import Callable
from functools import partial

import gradio as gr
from gradio.themes.utils.fonts import Font, LocalFont

from stylegan_v_mm.errors import InputError

from .studio import Result, Studio

#: Requests that may wait; more are told to come back later.
MAX_WAITING = 8
CSS = """
.frame img { width: 100%; height: 100%; object-fit: contain; }
.live { width: 100%; height: 46rem; border: 0; }
"""
PIXELATED = 'video, img { image-rendering: pixelated; }'


def build_page(studio: Studio, title: str) -> gr.Blocks:
    """Build the page.

    Args:
        studio (Studio): Answers the requests.
        title (str): Name of the model, plain text.

    Returns:
        gr.Blocks: The page, to be mounted in an application.
    """
    theme = gr.themes.Default(
        primary_hue='indigo',
        font=[LocalFont('IBM Plex Sans'), Font('sans-serif')],
        font_mono=[LocalFont('IBM Plex Mono'), Font('monospace')],
    ).set(block_info_text_color='*neutral_600')
    with gr.Blocks(
        title='StyleGAN-V',
        theme=theme,
        css=CSS + (PIXELATED if studio.resolution < 128 else ''),
        analytics_enabled=False,
    ) as page:
        gr.HTML(
            '<h1>StyleGAN-V</h1>Choose what is seen and how it moves, for as '
            f'long as you like. Model: {html.escape(title)}'
        )
        with gr.Tab('Live'):
            gr.HTML(
                '<iframe class="live" title="Live video" src="/live"></iframe>'
            )
        with gr.Tab('Make'), gr.Row():
            with gr.Column():
                look, draws = look_controls(studio)
                look |= direction_controls(studio)
                pace = pace_controls(studio)
            with gr.Column():
                with gr.Tab('Video'):
                    make = gr.Button('Make the video', variant='primary')
                    video = result_parts('Video')
                with gr.Tab('Any moment') as moment_tab:
                    moment = slider(
                        studio,
                        'moment',
                        0,
                        'Frames after Start, also fractional; shown at once.',
                    )
                    frame = gr.Image(
                        label='Frame',
                        height=440,
                        elem_classes='frame',
                        interactive=False,
                        show_share_button=False,
                    )
                with gr.Tab('Content and motion'):
                    rows = slider(
                        studio,
                        'rows',
                        3,
                        'Rows share a motion, columns a content.',
                    )
                    make_grid = gr.Button('Make the grid', variant='primary')
                    grid = result_parts('Grid')

        def render(settings: dict, progress: gr.Progress) -> tuple:
            return show(studio.video(settings, progress))

        answer(
            [make.click], 'video', render, controls=look | pace, outputs=video
        )
        squares = {'rows': rows} | look | pace
        answer(
            [make_grid.click], 'grid', render, controls=squares, outputs=grid
        )
        times = {'moment': moment, 'start': pace['start']}
        answer(
            [
                moment_tab.select,
                *map(settled, (times | look).values()),
                *(draw.then for draw in draws),
            ],
            'moment',
            lambda settings, _: studio.moment(settings),
            controls=times | look,
            outputs=frame,
            show_progress='hidden',
            trigger_mode='always_last',
        )
    return page.queue(max_size=MAX_WAITING, api_open=False)


def answer(
    triggers: list[Callable],
    name: str,
    make: Callable[[dict, gr.Progress], object],
    controls: dict[str, gr.components.Component],
    outputs: gr.components.Component | list[gr.components.Component],
    **options,
) -> None:
    """Answer events with the result of a function of the controls' values.

    Requests of all visitors are handled one after the other. Errors that a
    visitor can fix become messages in the page.

    Args:
        triggers (list): Methods of components that bind an event.
        name (str): Name of the endpoint for programs.
        make (callable): Takes the settings and a callback for progress.
        controls (dict): Controls by the names of their settings, which also
            name the endpoint's parameters.
        outputs (Component or list): Components that show the result.
        options: Passed to the triggers.
    """

    def wrapped(*values):
        *values, progress = values
        try:
            return make(dict(zip(controls, values)), progress)
        except InputError as error:
            raise gr.Error(
                html.escape(str(error)),
                title='That does not work',
                print_exception=False,
            ) from None

    # gradio reads the names, and whether to show progress, from the signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    wrapped.__signature__ = inspect.Signature(
        [
            *(inspect.Parameter(name, kind) for name in controls),
            inspect.Parameter('progress', kind, default=gr.Progress()),
        ]
    )
    for trigger in triggers:
        trigger(
            wrapped,
            list(controls.values()),
            outputs,
            api_name=name if trigger is triggers[0] else False,
            concurrency_id='studio',
            concurrency_limit=1,
            **options,
        )


def settled(control: gr.components.Component) -> Callable:
    """Return the event of a new value, but not of one being typed."""
    if isinstance(control, gr.Number):
        return control.submit
    return control.change


def slider(studio: Studio, name: str, value: float, info: str) -> gr.Slider:
    """Make the slider of a range."""
    label, least, most, step = studio.ranges[name]
    return gr.Slider(least, most, value, step=step, label=label, info=info)


def number(studio: Studio, name: str, info: str) -> gr.Number:
    """Make the number box of a range that is too wide for a slider."""
    return gr.Number(0, label=studio.ranges[name].label, info=info)


def look_controls(
    studio: Studio,
) -> tuple[dict[str, gr.components.Component], list]:
    """Make the controls of content and motion.

    Returns:
        tuple: The controls by name, and the events of random seeds.
    """
    random_seed = partial(random.randrange, 2**31)
    with gr.Group():
        with gr.Row():
            content = number(studio, 'content_seed', 'What is seen.')
            motion = number(studio, 'motion_seed', 'How it moves.')
        with gr.Row():
            draws = [
                gr.Button(f'Random {what}', size='sm').click(
                    random_seed, None, seed, queue=False, show_api=False
                )
                for what, seed in (('content', content), ('motion', motion))
            ]
        truncation = slider(
            studio, 'truncation', 1, 'Below 1: better looks, less variety.'
        )
        classes = [(str(i), i) for i in range(studio.num_classes)]
        label = gr.Dropdown(
            [('as the content seed draws', -1), *classes],
            value=-1,
            label=studio.ranges['label'].label,
            info='Which kind of video.',
            visible=bool(classes),
        )
    controls = dict(
        content_seed=content,
        motion_seed=motion,
        truncation=truncation,
        label=label,
    )
    return controls, draws


def direction_controls(studio: Studio) -> dict[str, gr.Slider]:
    """Make a slider for each direction."""
    with gr.Accordion('Directions', open=False):
        sliders = {
            name: slider(studio, name, 0, 'Changes what is seen.')
            for name in studio.directions
        }
        reset = gr.Button('All to 0', size='sm')
    reset.click(
        lambda: [0] * len(sliders),
        None,
        list(sliders.values()),
        show_api=False,
    )
    return sliders


def pace_controls(studio: Studio) -> dict[str, gr.components.Component]:
    """Make the controls of time."""
    longest = studio.ranges['num_frames'].most
    rates = studio.ranges['fps']
    with gr.Group():
        return dict(
            num_frames=slider(
                studio, 'num_frames', min(64, longest), 'In frames.'
            ),
            fps=slider(
                studio,
                'fps',
                min(max(studio.gan.fps, rates.least), rates.most),
                'Frames a second.',
            ),
            slow_motion=slider(
                studio,
                'slow_motion',
                1,
                '4: four times slower, with new frames in between.',
            ),
            start=number(
                studio, 'start', 'Frames to skip; the video has no end.'
            ),
            loop=gr.Checkbox(
                label='Loop: the last frame leads to the first one',
                visible=studio.can_loop,
            ),
        )


def result_parts(label: str) -> list[gr.components.Component]:
    """Make the components of a result: video and downloads."""
    video = gr.Video(
        label=label,
        height=440,
        interactive=False,
        autoplay=True,
        loop=True,
        show_download_button=False,
        show_share_button=False,
    )
    with gr.Row():
        downloads = [
            gr.DownloadButton(f'Save the {what}', size='md', interactive=False)
            for what in ('video (mp4)', 'latents (safetensors)')
        ]
    return [video, *downloads]


def show(result: Result) -> tuple:
    """Fill the components of :func:`result_parts`."""
    return (
        gr.Video(result.video, label=result.about),
        gr.DownloadButton(value=result.video, interactive=True),
        gr.DownloadButton(value=result.latents, interactive=True),
    )
