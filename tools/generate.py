"""Generate videos with a trained model.

    python tools/generate.py CONFIG CHECKPOINT --num-videos 16 \
        --num-frames 128 --grid --out samples.mp4

--out NAME.mp4 is one file: a grid, or a single video. Otherwise, --out is a
folder that gets a file (or, with --format png or jpg, a folder of frames) for
each video, named by its seed.
"""

import argparse
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from mmengine.config import DictAction
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import load_gan, sample_grid, save_frames
from stylegan_v_mm.tool import run_tool
from stylegan_v_mm.video_io import VideoWriter


def parse_args() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description='Generate videos with a trained model'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='file of a training run')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--num-videos', type=int, default=1)
    parser.add_argument('--num-frames', type=int, default=128)
    parser.add_argument('--fps', type=float, default=25, help='of mp4 files')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the first video; the next ones count up',
    )
    parser.add_argument(
        '--truncation-psi',
        type=float,
        default=1,
        help='below 1: less variety, better looks',
    )
    parser.add_argument(
        '--truncation-cutoff', type=int, help='number of truncated layers'
    )
    parser.add_argument(
        '--label', type=int, help='class of all videos; random if not given'
    )
    parser.add_argument(
        '--grid', action='store_true', help='all videos in one file'
    )
    parser.add_argument(
        '--format', choices=['mp4', 'png', 'jpg'], default='mp4'
    )
    parser.add_argument(
        '--quality', type=int, default=95, help='of jpg files, 1 to 95'
    )
    parser.add_argument(
        '--chunk', type=int, default=32, help='frames rendered at a time'
    )
    parser.add_argument('--device', help='cuda or cpu; found if not given')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override',
    )
    args = parser.parse_args()
    for name in ('num_videos', 'num_frames', 'chunk'):
        if getattr(args, name) < 1:
            raise InputError(f'--{name.replace("_", "-")} must be at least 1')
    if args.seed < 0:
        raise InputError('--seed must be at least 0')
    if not 1 <= args.quality <= 95:
        raise InputError('--quality must be from 1 to 95')
    one_file = args.out.suffix == '.mp4'
    if one_file and args.format != 'mp4':
        raise InputError(
            f'--out {args.out}: --format {args.format} needs a folder'
        )
    if one_file and args.num_videos > 1 and not args.grid:
        raise InputError(
            f'--out {args.out}: several files need a folder; --grid makes one '
            'file'
        )
    if args.grid and args.format == 'mp4' and not one_file:
        raise InputError(f'--out {args.out} must end in .mp4 with --grid')
    folder = args.out.parent if args.grid or one_file else args.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / '.stylegan_v_mm.probe'
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f'--out: the folder {folder} is not writable: {error.strerror}'
        ) from error
    return args


def random_label(seed: int, c_dim: int) -> int:
    """Draw the class of a video from its seed."""
    generator = torch.Generator().manual_seed(seed)
    return int(torch.randint(c_dim, [1], generator=generator))


def main() -> None:
    """Parse the command line and generate."""
    args = parse_args()
    gan = load_gan(args.config, args.checkpoint, args.device, args.cfg_options)
    if args.label is not None and not 0 <= args.label < gan.c_dim:
        raise InputError(
            f'--label {args.label}: the model has {gan.c_dim} classes'
        )
    t = torch.arange(args.num_frames)
    progress = tqdm(
        total=args.num_videos * args.num_frames, unit='frame', smoothing=0.05
    )

    def video(seed: int) -> Iterator[Tensor]:
        c = None
        if gan.c_dim > 0:
            label = args.label
            if label is None:
                label = random_label(seed, gan.c_dim)
            c = torch.eye(gan.c_dim)[label]
        for frames in gan.sample_video(
            seed,
            t,
            c,
            truncation_psi=args.truncation_psi,
            truncation_cutoff=args.truncation_cutoff,
            chunk=args.chunk,
        ):
            yield frames
            progress.update(len(frames))

    def write(chunks: Iterable[Tensor], path: Path) -> None:
        if args.format != 'mp4':
            save_frames(chunks, path, args.format, args.quality)
            return
        with VideoWriter(path.with_suffix('.mp4'), args.fps) as writer:
            for frames in chunks:
                writer.append(frames)

    seeds = range(args.seed, args.seed + args.num_videos)
    with progress:
        if args.grid:
            columns = math.ceil(args.num_videos**0.5)
            write(sample_grid([video(s) for s in seeds], columns), args.out)
        elif args.out.suffix == '.mp4':
            write(video(args.seed), args.out)
        else:
            for seed in seeds:
                write(video(seed), args.out / f'{seed:06d}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
