r"""Edit videos along directions of their style vectors.

    python tools/edit.py WORK_DIR --seed 6 --out FOLDER
    python tools/edit.py WORK_DIR --seed 6 --component 2 --strength 3 \
        --out FOLDER

The first draws what the directions do, to choose from. The second moves along
one of them; with --mask in a region of the picture only.
"""

import argparse
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.cli import (
    add_rendering_options,
    add_videos_to_edit,
    count,
    finite_float,
    model_parser,
    positive_int,
    run_tool,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write, check_writable
from stylegan_v_mm.inference import Latents, VideoGANInferencer
from stylegan_v_mm.inference.directions import (
    move,
    pca_directions,
    read_layers,
    sefa_directions,
)
from stylegan_v_mm.inference.editing import render_edit, write_edit
from stylegan_v_mm.inference.regions import read_mask
from stylegan_v_mm.inference.writing import video_path
from stylegan_v_mm.models.sampler import Sampler
from stylegan_v_mm.video.encoding import video_grid
from stylegan_v_mm.video.pixels import to_bytes


def parse_args() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = model_parser(__doc__)
    parser.add_argument('--out', type=Path, required=True, help='a folder')

    add_videos_to_edit(parser)

    edit = parser.add_argument_group('edit')
    edit.add_argument(
        '--method',
        choices=['sefa', 'pca'],
        default='sefa',
        help='directions to which the styles react most, or along which w '
        'varies most',
    )
    edit.add_argument(
        '--component', type=count, help='the direction to move along, from 0'
    )
    edit.add_argument(
        '--strength',
        type=finite_float,
        default=3,
        help='how far, in standard deviations; negative for the other way',
    )
    edit.add_argument(
        '--layers',
        default='2-',
        help='style vectors to move: A-B, or A- for all from A on; the first '
        'two would change the motion, too',
    )
    edit.add_argument(
        '--edited', type=Path, help='go to these latents instead'
    )
    edit.add_argument(
        '--mask',
        type=Path,
        help='picture that is white where to edit the frame at time 0; the '
        'region is found again at other times',
    )
    edit.add_argument(
        '--num-components',
        type=positive_int,
        default=8,
        help='directions to draw when none is chosen',
    )

    add_rendering_options(parser)
    args = parser.parse_args()

    if args.component is not None and args.edited is not None:
        raise InputError('--component and --edited: choose one')
    args.sliders = args.component is None and args.edited is None
    if args.mask is not None and args.sliders:
        raise InputError('--mask needs --component or --edited')
    check_writable(args.out)
    return args


def find_directions(
    args: argparse.Namespace, sampler: Sampler, layers: range
) -> Tensor:
    """Find the directions [K, w_dim] that are asked for."""
    num, w_dim = args.num_components, sampler.generator.w_dim
    if args.component is not None:
        if args.component >= w_dim:
            raise InputError(
                f'--component {args.component}: choose one from 0 to '
                f'{w_dim - 1}'
            )
        num = args.component + 1
    num = min(num, w_dim)
    if args.method == 'sefa':
        return sefa_directions(sampler, num, layers)
    return pca_directions(sampler, num)


def draw_sliders(
    gan: VideoGANInferencer,
    latents: Latents,
    directions: Tensor,
    layers: range,
    args: argparse.Namespace,
    path: Path,
) -> None:
    """Draw a frame of one video, moved along each direction by steps."""
    strengths = torch.linspace(-args.strength, args.strength, 7).tolist()
    time = torch.tensor([args.time_offset]).double()
    rows = []
    for direction in directions:
        ws = [move(latents.ws, direction, s, layers) for s in strengths]
        rows.append(
            gan.render(
                ws=torch.cat(ws),
                motions=list(latents.motions) * len(ws),
                t=time,
                c=None if latents.c is None else latents.c.expand(len(ws), -1),
                chunk=args.chunk,
            )
        )
    grid = video_grid(to_bytes(torch.cat(rows)).cpu(), len(strengths), 0)[0]
    size = gan.sampler.generator.resolution
    height = 1.1 * len(rows) + 0.7
    figure = Figure((1.1 * len(strengths) + 0.9, height), dpi=100)
    axes = figure.add_axes((0.09, 0.02, 0.89, 0.98 - 0.65 / height))
    axes.imshow(grid.permute(1, 2, 0).numpy(), aspect='auto')
    axes.set_xticks(
        [size * (i + 0.5) for i in range(len(strengths))],
        [f'{strength:+g}' if strength else '0' for strength in strengths],
    )
    axes.set_yticks(
        [size * (i + 0.5) for i in range(len(rows))],
        [str(i) for i in range(len(rows))],
    )
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position('top')
    axes.set_xlabel('strength')
    axes.set_ylabel('component')
    axes.tick_params(length=0)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format='png')


def main() -> None:
    """Parse the command line and edit."""
    args = parse_args()
    gan = VideoGANInferencer(args.model, args.checkpoint, args.device)
    network = gan.sampler.generator
    layers = read_layers('--layers', args.layers, network.num_ws)
    t = gan.times(args.num_frames, args.time_offset, args.slow_motion)
    if args.latents is not None:
        before = Latents.load(args.latents, network)
        names = range(len(before))
    else:
        names = range(args.seed, args.seed + args.num_videos)
        before = gan.latents(
            names, args.label, truncation_psi=args.truncation_psi
        )
    mask = None
    if args.mask is not None:
        mask = read_mask(args.mask, network.resolution)
        if len(before) > 1:
            raise InputError(
                f'--mask is of one video, and these are {len(before)}'
            )

    if args.sliders:
        directions = find_directions(args, gan.sampler, layers)
        for i, name in enumerate(names):
            path = args.out / f'sliders_{name:06d}.png'
            draw_sliders(
                gan=gan,
                latents=before[i : i + 1],
                directions=directions,
                layers=layers,
                args=args,
                path=path,
            )
            print(f'wrote {path}: choose a --component')
        return

    if args.edited is not None:
        after = Latents.load(args.edited, network)
        if len(after) != len(before):
            raise InputError(
                f'{args.edited} holds {len(after)} videos, to edit are '
                f'{len(before)}'
            )
    else:
        direction = find_directions(args, gan.sampler, layers)[args.component]
        ws = move(before.ws, direction, args.strength, layers)
        after = Latents(ws, before.motions, before.c)
    before.save(args.out / 'before.safetensors')
    after.save(args.out / 'after.safetensors')
    if mask is not None:
        kept = args.out / 'mask.png'
        if not kept.exists() or not kept.samefile(args.mask):
            shutil.copyfile(args.mask, kept)
    progress = tqdm(total=len(before) * args.num_frames, unit='frame')

    def counted(pieces: Iterable) -> Iterator:
        for piece in pieces:
            yield piece
            progress.update(len(piece[0]))

    with progress:
        for i, name in enumerate(names):
            one = slice(i, i + 1)
            pieces = render_edit(
                sampler=gan.sampler,
                before=before[one],
                after=after[one],
                t=t,
                mask=mask,
                chunk=args.chunk,
            )
            path = video_path(args.out, name)
            report = write_edit(counted(pieces), path, args.fps or gan.fps)
            progress.write(f'{path.name}: {report}')
    print(f'wrote {args.out}, with {gan.checkpoint}')


if __name__ == '__main__':
    run_tool(main)
