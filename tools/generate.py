r"""Generate videos with a trained model.

    python tools/generate.py CONFIG CHECKPOINT --num-videos 16 \
        --num-frames 128 --grid --out samples.mp4
    python tools/generate.py WORK_DIR --seed 7 --slow-motion 4 --out 7.mp4

--out NAME.mp4 (or .gif, .webp) is one file: a grid, or a single video.
Otherwise, --out is a folder that gets a file (or, with --format png or jpg, a
folder of pictures) for each video, named by its seed. Several processes share
the work on a folder: torchrun --nproc-per-node=8 tools/generate.py ...
"""

import argparse
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.cli import (
    add_cfg_options,
    add_rendering_options,
    count,
    finite_float,
    frame_rate,
    model_parser,
    place_among_processes,
    read_options,
    run_tool,
    seed_number,
    video_count,
    whole_number,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import check_writable
from stylegan_v_mm.inference import Latents, VideoGANInferencer, save_video
from stylegan_v_mm.inference.directions import read_layers
from stylegan_v_mm.inference.writing import (
    FORMATS,
    SINGLE_FILES,
    grids,
    video_path,
)
from stylegan_v_mm.models.latents import decompose
from stylegan_v_mm.registry import DATASETS


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = model_parser(__doc__)
    parser.add_argument(
        '--metric',
        help='of the checkpoints in a work dir, take the best by this metric '
        'of tools/test.py; else the best that training kept, or the newest',
    )
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--num-videos', type=video_count)
    parser.add_argument(
        '--seed',
        type=seed_number,
        nargs='+',
        default=[0],
        help='of the first video, the next ones count up; or of each',
    )
    parser.add_argument(
        '--motion-seed',
        type=seed_number,
        nargs='+',
        help='motions instead of those of --seed: one for all, or one each',
    )
    parser.add_argument(
        '--label',
        default='random',
        help="a class, 'random' (all equally likely), or 'data' (as frequent "
        'as in the data set of the config)',
    )
    parser.add_argument(
        '--latents', type=Path, help='render these instead of seeds'
    )
    parser.add_argument(
        '--save-latents',
        type=Path,
        help='.safetensors file that fixes these videos, for editing',
    )

    time = add_rendering_options(parser)
    time.add_argument(
        '--fps-out',
        type=frame_rate,
        help='frames a second of the files, at the same speed of the motion',
    )
    time.add_argument(
        '--loop', action='store_true', help='the last frame leads to the first'
    )

    look = parser.add_argument_group('look')
    look.add_argument(
        '--truncation-psi',
        type=finite_float,
        default=1,
        help='below 1: less variety, better looks',
    )
    look.add_argument(
        '--truncation-cutoff',
        type=count,
        help='number of truncated layers',
    )
    look.add_argument(
        '--noise-mode',
        choices=['const', 'none'],
        help='of a generator that adds noise (use_noise): the stored noise, '
        'the same for all frames, which is the default, or none',
    )
    look.add_argument(
        '--mix-seed',
        type=seed_number,
        help='take the styles of --mix-layers of it',
    )
    look.add_argument(
        '--mix-layers', help='A-B, or A- for all from A on; from 0'
    )
    layout = look.add_mutually_exclusive_group()
    layout.add_argument(
        '--grid', action='store_true', help='all videos in one file'
    )
    layout.add_argument(
        '--decomposition',
        action='store_true',
        help='a grid whose rows share a motion and whose columns share a '
        'content; --num-videos of each',
    )
    layout.add_argument(
        '--interpolate',
        choices=['content', 'motion'],
        help='one video that walks from seed to seed, while the other of the '
        'two is that of the first',
    )

    parser.add_argument(
        '--format', choices=FORMATS, default='mp4', help='of files in a folder'
    )
    parser.add_argument(
        '--quality',
        type=whole_number(1, 95),
        default=95,
        help='of jpg files, 1 to 95',
    )
    add_cfg_options(parser, 'data_root=data/others')
    args = parser.parse_args()
    check(args)
    return args


def check(args: argparse.Namespace) -> None:
    """Check the arguments, and fill in what follows from others."""
    if len(args.seed) > 1:
        if args.num_videos not in (None, len(args.seed)):
            raise InputError(
                f'--num-videos {args.num_videos}, but --seed has '
                f'{len(args.seed)}'
            )
    else:
        many = 2 if args.interpolate else 4 if args.decomposition else 1
        number = many if args.num_videos is None else args.num_videos
        args.seed = list(range(args.seed[0], args.seed[0] + number))
    if args.motion_seed is not None and len(args.motion_seed) == 1:
        args.motion_seed *= len(args.seed)
    if (args.mix_seed is None) != (args.mix_layers is None):
        raise InputError('--mix-seed and --mix-layers need each other')

    args.one_video = bool(args.grid or args.decomposition or args.interpolate)
    args.one_file = args.out.suffix.removeprefix('.') in SINGLE_FILES
    if args.one_file and args.format != 'mp4':
        raise InputError(
            f'--out {args.out}: --format {args.format} needs a folder'
        )
    if args.one_video and not args.one_file and args.format in SINGLE_FILES:
        raise InputError(
            f'--out {args.out} must end in .mp4, .gif or .webp with --grid, '
            '--decomposition or --interpolate'
        )
    if args.latents is None:
        check_count(len(args.seed), args)
    one_path = args.one_video or args.one_file
    check_writable(args.out.parent if one_path else args.out)
    if args.save_latents is not None:
        check_writable(args.save_latents.parent)


def find_labels(
    gan: VideoGANInferencer, args: argparse.Namespace
) -> int | Tensor | None:
    """Turn --label into what ``VideoGANInferencer.latents`` takes."""
    if args.label == 'random':
        return None
    if args.label == 'data':
        config = (gan.cfg.get('test_dataloader') or {}).get('dataset', {})
        if config.get('labels') is None:
            raise InputError(
                '--label data: the config has no labels, set labels=...'
            )
        seeds = DATASETS.build({**config, 'num_videos': 1, 'num_frames': 1})
        return torch.stack([seeds.label_of(seed) for seed in args.seed])
    if not re.fullmatch('[0-9]{1,9}', args.label):
        raise InputError(
            f"--label {args.label}: give a class from 0 on, 'random' or 'data'"
        )
    c_dim = gan.sampler.generator.c_dim
    if int(args.label) >= c_dim:
        raise InputError(
            f'--label {args.label}: the model has {c_dim} classes'
        )
    return int(args.label)


def check_count(num_videos: int, args: argparse.Namespace) -> None:
    """Check that so many videos go with the layout."""
    if num_videos > 1 and args.one_file and not args.one_video:
        raise InputError(
            f'--out {args.out}: several files need a folder; --grid makes one '
            'file'
        )


def find_latents(
    gan: VideoGANInferencer,
    args: argparse.Namespace,
    loop_codes: int | None,
    rank: int,
) -> Latents:
    """Find what fixes the videos to render."""
    if args.latents is not None:
        latents = Latents.load(args.latents, gan.sampler.generator)
        latents.motions = [
            dataclasses.replace(motion, period=loop_codes or motion.period)
            for motion in latents.motions
        ]
        check_count(len(latents), args)
        args.seed = list(range(len(latents)))  # for names of files
    else:
        latents = gan.latents(
            seeds=args.seed,
            labels=find_labels(gan, args),
            motion_seeds=args.motion_seed,
            truncation_psi=args.truncation_psi,
            truncation_cutoff=args.truncation_cutoff,
            loop_codes=loop_codes,
        )
    if args.mix_seed is not None:
        layers = read_layers(
            '--mix-layers', args.mix_layers, latents.ws.shape[1]
        )
        other = gan.sampler.latents(
            [args.mix_seed],
            c=None if latents.c is None else latents.c[:1],
            truncation_psi=args.truncation_psi,
            truncation_cutoff=args.truncation_cutoff,
        )
        latents.ws = latents.ws.clone()
        latents.ws[:, layers] = other.ws[:, layers]
    if args.save_latents is not None and rank == 0:
        latents.save(args.save_latents)
    return decompose(latents) if args.decomposition else latents


def main() -> None:
    """Parse the command line and generate."""
    args = parse_args()
    rank, num_processes = place_among_processes()
    if num_processes > 1 and (args.one_video or args.one_file):
        if rank > 0:
            return
        print(f'{args.out} is one file, which one process writes')
        num_processes = 1
    gan = VideoGANInferencer(
        model=args.model,
        weights=args.checkpoint,
        device=args.device,
        metric=args.metric,
        options=read_options(args.cfg_options),
    )
    if args.noise_mode is not None:
        synthesis = gan.sampler.generator.synthesis
        if not synthesis.use_noise:
            raise InputError(
                f'--noise-mode {args.noise_mode}: this generator adds no '
                'noise (model.generator.use_noise), so leave it out'
            )
        synthesis.noise_mode = args.noise_mode
    fps = args.fps or gan.fps
    fps_out = args.fps_out or fps
    slow_motion = args.slow_motion * fps_out / fps
    loop_codes = None
    if args.loop:
        loop_codes = gan.loop_codes(args.num_frames / slow_motion)
    t = gan.times(args.num_frames, args.time_offset, slow_motion, loop_codes)
    latents = find_latents(gan, args, loop_codes, rank)
    n = len(latents)
    rendered = 1 if args.interpolate else math.ceil(n / num_processes)
    progress = tqdm(
        total=rendered * args.num_frames,
        unit='frame',
        smoothing=0.05,
        disable=rank > 0,
    )

    def write(pieces: Iterable[Tensor], path: Path, each: int = 1) -> None:
        def counted() -> Iterator[Tensor]:
            for frames in pieces:
                yield frames
                progress.update(each * len(frames))

        save_video(
            chunks=counted(),
            path=path,
            fps=fps_out,
            format=args.format,
            quality=args.quality,
        )

    with progress:
        if args.interpolate:
            video = gan.walk(
                latents=latents,
                t=t,
                what=args.interpolate,
                closed=args.loop,
                chunk=args.chunk,
            )
            write(video, args.out)
        elif args.grid or args.decomposition:
            columns = math.ceil(n**0.5)
            videos = gan.stream(latents, t, args.chunk)
            write(grids(videos, columns), args.out, n)
        elif args.one_file:
            _, video = next(gan.videos(latents, t, args.chunk))
            write(video, args.out)
        else:
            videos = gan.videos(latents, t, args.chunk, (rank, num_processes))
            for i, video in videos:
                write(video, video_path(args.out, args.seed[i], args.format))
    whose = f', process {rank} its share' if num_processes > 1 else ''
    print(f'wrote {args.out}{whose}, with {gan.checkpoint}')


if __name__ == '__main__':
    run_tool(main)
