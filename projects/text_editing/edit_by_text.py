"""Edit videos of a trained generator by a text.

Example:
    python projects/text_editing/edit_by_text.py WORK_DIR --clip WEIGHTS
    --prompt 'a blue ball' --out FOLDER
"""

import argparse
import re
from pathlib import Path

import yaml
from text_editing.clip import Clip
from text_editing.optimize import TextEdit, edit_by_text
from tqdm import tqdm

from stylegan_v_mm.cli import (
    add_videos_to_edit,
    frame_count,
    frame_rate,
    loss_weight,
    model_parser,
    positive_float,
    positive_int,
    run_tool,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import check_writable
from stylegan_v_mm.inference import Latents, VideoGANInferencer
from stylegan_v_mm.inference.directions import read_layers
from stylegan_v_mm.inference.editing import render_edit, write_edit
from stylegan_v_mm.inference.writing import video_path


def parse_args() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = model_parser(__doc__)
    parser.add_argument('--out', type=Path, required=True, help='a folder')
    parser.add_argument(
        '--clip',
        type=Path,
        required=True,
        help='file of weights, or a folder with open_clip_config.json',
    )
    parser.add_argument(
        '--clip-model',
        default='ViT-B-32',
        help="open_clip's name for the architecture of a file",
    )

    text = parser.add_argument_group('text')
    which = text.add_mutually_exclusive_group(required=True)
    which.add_argument('--prompt', help='what the videos should show')
    which.add_argument(
        '--prompts',
        type=Path,
        help='YAML file with lines "name: prompt", edited in turn',
    )
    text.add_argument(
        '--neutral',
        help='what they show now: move along the difference of the two texts '
        'instead of towards the prompt',
    )

    videos = add_videos_to_edit(parser)
    videos.add_argument('--num-frames', type=frame_count, default=64)
    videos.add_argument('--fps', type=frame_rate, default=25)

    edit = parser.add_argument_group('edit')
    edit.add_argument('--steps', type=positive_int, default=100)
    edit.add_argument('--lr', type=positive_float, default=0.1)
    edit.add_argument(
        '--latent-weight',
        type=loss_weight,
        default=0.008,
        help='weight of the squared distance of the styles; a larger one '
        'keeps them closer',
    )
    edit.add_argument(
        '--identity-weight',
        type=loss_weight,
        default=0.1,
        help="weight of CLIP's distance from the original frames",
    )
    edit.add_argument(
        '--layers',
        default='2-',
        help='style vectors to move: A-B, or A- for all from A on; the first '
        'two also affect the motion',
    )
    edit.add_argument('--frames-per-step', type=frame_count, default=4)
    parser.add_argument('--device', help='cuda or cpu; found if not given')
    args = parser.parse_args()

    args.texts = {'.': args.prompt}
    if args.prompts is not None:
        args.texts = read_prompts(args.prompts)
    check_writable(args.out)
    return args


def read_prompts(path: Path) -> dict[str, str]:
    """Read a YAML file of prompts: folder name -> text.

    Raises:
        InputError: The file is missing or holds something else.
    """
    try:
        prompts = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(f'{path} cannot be read: {reason}') from error
    if not isinstance(prompts, dict) or not prompts:
        raise InputError(f'{path} must hold lines "name: prompt"')
    for name, text in prompts.items():
        named = re.fullmatch(r'\w[\w -]*', f'{name}')
        if not named or not isinstance(text, str):
            raise InputError(
                f'{path}: "{name}: {text}" is no name for a folder (letters, '
                'digits, - and _) with a text'
            )
    return {f'{name}': text for name, text in prompts.items()}


def main() -> None:
    """Parse the command line and edit."""
    args = parse_args()
    gan = VideoGANInferencer(args.model, args.checkpoint, args.device)
    network = gan.sampler.generator
    layers = read_layers('--layers', args.layers, network.num_ws)
    if args.latents is not None:
        before = Latents.load(args.latents, network)
        names = range(len(before))
    else:
        names = range(args.seed, args.seed + args.num_videos)
        before = gan.latents(
            names, args.label, truncation_psi=args.truncation_psi
        )
    clip = Clip(args.clip, args.clip_model, gan.sampler.device)
    t = gan.times(args.num_frames)
    progress = tqdm(
        total=len(args.texts) * len(before) * args.steps, unit='step'
    )

    def step_done(loss: float) -> None:
        progress.set_postfix(loss=f'{loss:.3f}', refresh=False)
        progress.update()

    with progress:
        for folder, prompt in args.texts.items():
            edit = TextEdit(
                prompt=prompt,
                neutral=args.neutral,
                layers=layers,
                num_steps=args.steps,
                lr=args.lr,
                latent_weight=args.latent_weight,
                identity_weight=args.identity_weight,
                frames_per_step=args.frames_per_step,
            )
            after = Latents(before.ws.clone(), before.motions, before.c)
            for i, name in enumerate(names):
                one = slice(i, i + 1)
                video = before[one]
                result = edit_by_text(
                    sampler=gan.sampler,
                    latents=video,
                    clip=clip,
                    edit=edit,
                    num_frames=args.num_frames,
                    progress=step_done,
                )
                after.ws[one] = result.ws.to(after.ws)
                path = video_path(args.out / folder, name)
                pieces = render_edit(gan.sampler, video, after[one], t)
                report = write_edit(pieces, path, args.fps)
                progress.write(
                    f'{path}, "{prompt}": {result.before:.3f} -> '
                    f'{result.after:.3f}, {report}'
                )
            before.save(args.out / folder / 'before.safetensors')
            after.save(args.out / folder / 'after.safetensors')
    print(f'wrote {args.out}, with {gan.checkpoint}')


if __name__ == '__main__':
    run_tool(main)
