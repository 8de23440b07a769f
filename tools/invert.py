r"""Find the latents of a picture or a video.

    python tools/invert.py WORK_DIR --input clip.mp4 --out inverted
    python tools/generate.py WORK_DIR --latents inverted/latents.safetensors \
        --num-frames 128 --out longer.mp4

FOLDER gets latents.safetensors, for each input NAME_compared.mp4 (target and
inversion side by side) and NAME_progress.mp4 (how the inversion came about),
and report.json.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.cli import (
    count,
    frame_count,
    frame_rate,
    loss_weight,
    model_parser,
    positive_float,
    positive_int,
    real_number,
    run_tool,
    seed_number,
    whole_number,
)
from stylegan_v_mm.datasets.sources.finding import open_video
from stylegan_v_mm.datasets.sources.frame_folders import FrameFolder
from stylegan_v_mm.datasets.transforms import ResizeCrop
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.detectors.lpips import load_lpips
from stylegan_v_mm.files import atomic_write, check_writable
from stylegan_v_mm.inference import Latents, VideoGANInferencer
from stylegan_v_mm.inference.inversion import (
    invert,
    mean_lpips,
    motion_correlation,
    psnr,
)
from stylegan_v_mm.video.encoding import video_grid, write_video
from stylegan_v_mm.video.pixels import to_bytes


def parse_args() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = model_parser(__doc__)
    parser.add_argument(
        '--input',
        type=Path,
        nargs='+',
        required=True,
        help='images, videos, folders of frames: each gets latents of its own',
    )
    parser.add_argument('--out', type=Path, required=True, help='a new folder')

    frames = parser.add_argument_group('frames of a video')
    frames.add_argument('--num-frames', type=frame_count, default=16)
    frames.add_argument('--start', type=count, default=0, help='first frame')
    frames.add_argument(
        '--stride', type=positive_int, default=1, help='take every n-th frame'
    )
    frames.add_argument(
        '--times',
        type=real_number(0, 1e6),
        nargs='+',
        help='when the generator is to show them; 0, the stride, ... if not '
        'given',
    )

    search = parser.add_argument_group('search')
    search.add_argument(
        '--space',
        choices=['w', 'w+'],
        default='w+',
        help='w is less exact and better to edit',
    )
    search.add_argument('--steps', type=positive_int, default=1000)
    search.add_argument(
        '--starts',
        type=whole_number(1, 1024),
        default=8,
        help='tries, fewer and fewer go on',
    )
    search.add_argument('--lr', type=positive_float, default=0.2)
    search.add_argument(
        '--motion-weight',
        type=loss_weight,
        default=1e-3,
        help='of the penalty that keeps motion noise normal',
    )
    search.add_argument('--seed', type=seed_number, default=0)
    search.add_argument('--label', type=count, help='class of all inputs')
    search.add_argument(
        '--loss',
        choices=['lpips', 'pixels'],
        default='lpips',
        help='lpips: pixels and edges at all scales, and LPIPS, whose weights '
        'tools/get_detectors.py gets; pixels: without these',
    )
    parser.add_argument(
        '--fps',
        type=frame_rate,
        help='of the written videos; default: that of the config',
    )
    parser.add_argument('--device', help='cuda or cpu; found if not given')
    args = parser.parse_args()
    if args.out.exists():
        raise InputError(
            f'--out {args.out} exists: remove it or choose another'
        )
    check_writable(args.out.parent)
    return args


def read_target(
    path: Path, resolution: int, args: argparse.Namespace
) -> Tensor:
    """Read a picture or some frames of a video: uint8 [T, 3, H, W]."""
    source = open_video(path)
    if source.problem and not len(source):
        raise InputError(f'--input {path}: {source.problem}')
    is_image = isinstance(source, FrameFolder) and not path.is_dir()
    count = 1 if is_image else args.num_frames
    start, stride = (0, 1) if is_image else (args.start, args.stride)
    last = start + (count - 1) * stride
    if last >= len(source):
        raise InputError(
            f'--input {path} has {len(source)} frames; {count} from {start} '
            f'on, {stride} apart, reach frame {last}: lower --num-frames, '
            '--start or --stride'
        )
    frames = source.read(list(range(start, last + 1, stride)))
    frames = ResizeCrop(resolution)({'frames': frames})['frames']
    return torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)


def read_lpips() -> torch.nn.Module:
    """Load LPIPS, or say how to do without."""
    try:
        return load_lpips()
    except InputError as error:
        raise InputError(f'{error}, or add --loss pixels') from error


def main() -> None:
    """Parse the command line and invert."""
    args = parse_args()
    lpips = read_lpips() if args.loss == 'lpips' else None
    gan = VideoGANInferencer(args.model, args.checkpoint, args.device)
    fps = args.fps or gan.fps
    resolution = gan.sampler.generator.resolution
    targets = {
        path: read_target(path, resolution, args) for path in args.input
    }
    if len({path.stem for path in targets}) < len(args.input):
        raise InputError('--input: the names of the inputs must differ')
    times = {}
    for path, target in targets.items():
        t = torch.arange(len(target), dtype=torch.float64) * args.stride
        if args.times is not None:
            t = torch.tensor(args.times, dtype=torch.float64)
            if len(t) != len(target):
                raise InputError(
                    f'--times: {len(t)} for {len(target)} frames of {path}'
                )
        times[path] = t
    labels = gan.latents([args.seed], args.label).c

    found, report = [], {}
    with atomic_write(args.out) as temporary:
        temporary.mkdir()
        for path, target in targets.items():
            shown: list[Tensor] = []
            every = max(1, args.steps // 100)
            bar = tqdm(total=args.steps, unit='step', desc=path.name)

            def follow(
                step: int,
                loss: float,
                frames: Tensor,
                bar: tqdm = bar,
                shown: list[Tensor] = shown,
                every: int = every,
            ) -> None:
                bar.update()
                bar.set_postfix(loss=f'{loss:.4f}')
                if step % every == 0:
                    shown.append(to_bytes(frames[len(frames) // 2]).cpu())

            with bar:
                result = invert(
                    sampler=gan.sampler,
                    target=target,
                    t=times[path],
                    c=None if labels is None else labels[0],
                    space=args.space,
                    num_steps=args.steps,
                    num_candidates=max(64, args.starts),
                    num_starts=args.starts,
                    lr=args.lr,
                    motion_weight=args.motion_weight,
                    seed=args.seed,
                    lpips=lpips,
                    progress=follow,
                )
            found.append(result.latents)
            pair = torch.stack([target, result.frames])
            grid = video_grid(pair, 2)
            write_video(temporary / f'{path.stem}_compared.mp4', grid, fps)
            write_video(
                temporary / f'{path.stem}_progress.mp4',
                torch.stack(shown),
                fps,
            )
            numbers = {'psnr': psnr(result.frames, target)}
            if lpips is not None:
                numbers['lpips'] = mean_lpips(result.frames, target, lpips)
            if len(target) > 2:
                numbers['motion_correlation'] = motion_correlation(
                    result.frames, target
                )
            print(
                f'{path}: '
                + ', '.join(f'{k} {v:.3f}' for k, v in numbers.items())
            )
            report[str(path)] = {
                **numbers,
                'times': times[path].tolist(),
                'losses': result.losses,
            }
            if len(result.losses) < args.steps:
                print('stopped by the user: keeping what was found so far')
                break
        cs = [x.c for x in found if x.c is not None]
        Latents(
            torch.cat([x.ws for x in found]),
            [x.motions[0] for x in found],
            torch.cat(cs) if cs else None,
        ).save(temporary / 'latents.safetensors')
        (temporary / 'report.json').write_text(json.dumps(report) + '\n')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
