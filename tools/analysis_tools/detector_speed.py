r"""Measure how fast I3D turns clips into features, beside the package cd-fvd.

Example:
    python tools/analysis_tools/detector_speed.py data/clips

Both networks have the same weights and take turns on the same clips, four at
a time. "CPU" is the processor's time, over all threads, which other programs
on the machine hardly change; "x cd-fvd" is the median of its ratios. The
distance is that of the first half of the clips from the second.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.cli import (
    keep_freed_memory,
    picture_size,
    positive_int,
    run_tool,
    tool_parser,
    whole_number,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import I3D, FeatureStats, frechet_distance
from stylegan_v_mm.evaluation.detectors.files import detector_file
from stylegan_v_mm.evaluation.real_clips import own_share, real_clips
from stylegan_v_mm.evaluation.results import format_table

BASELINE = 'cd-fvd'
CLIPS_AT_A_TIME = 4
#: What batch normalisation adds to the variance in cd-fvd.
EPS = 1e-5

Detect = Callable[[Tensor], Tensor]


def build_baseline(weights: str) -> Detect:
    """Build the network of cd-fvd, with its way from bytes to floats.

    Args:
        weights: File of weights.

    Returns:
        A function of clips, as the ``features`` of our detectors.

    Raises:
        InputError: The package is not installed.
    """
    try:
        from cdfvd.third_party.i3d.utils import preprocess_i3d, pytorch_i3d
    except ImportError as error:
        raise InputError(
            f'the baseline is missing ({error}): pip install cd-fvd'
        ) from error
    network = pytorch_i3d.InceptionI3d(400).eval()
    if Path(weights).suffix == '.safetensors':
        network.load_state_dict(load_file(weights))
    else:
        network.load_state_dict(torch.load(weights, weights_only=True))

    @torch.no_grad()
    def detect(video: Tensor) -> Tensor:
        clips = video.permute(0, 1, 3, 4, 2).numpy()  # N, T, H, W, C
        return network(preprocess_i3d(clips))

    return detect


def take_turns(
    detectors: dict[str, Detect], parts: list[Tensor]
) -> tuple[dict[str, Tensor], dict[str, list[tuple[float, float]]]]:
    """Run all detectors on one part of the clips after another.

    The first part is seen once more before, to warm up.

    Args:
        detectors: By name.
        parts: Clips, [N, T, 3, H, W], uint8, each.

    Returns:
        Features of all clips, and for each part the seconds that a clip took:
        the processor's time, and by the clock; by name.
    """
    features: dict[str, list[Tensor]] = {name: [] for name in detectors}
    seconds: dict[str, list[tuple[float, float]]] = {
        name: [] for name in detectors
    }
    turns = tqdm([parts[0], *parts], 'turns', disable=None)
    for turn, part in enumerate(turns):
        for name, detect in detectors.items():
            start = time.process_time(), time.perf_counter()
            found = detect(part)
            end = time.process_time(), time.perf_counter()
            if turn > 0:
                features[name].append(found)
                cpu, clock = (b - a for a, b in zip(start, end))
                seconds[name].append((cpu / len(part), clock / len(part)))
    return {k: torch.cat(v) for k, v in features.items()}, seconds


def distance_of_halves(features: Tensor) -> float:
    """Compute the distance between the two halves of a set of features."""
    halves = []
    for half in features.chunk(2):
        halves.append(FeatureStats(features.shape[1]))
        halves[-1].append(half)
    return frechet_distance(*halves)


def main() -> None:
    """Read the command line, measure, and print the table."""
    parser = tool_parser(__doc__)
    parser.add_argument('data', help='folder, zip or video file')
    parser.add_argument(
        '--weights',
        help='file of I3D (default: what tools/get_detectors.py got)',
    )
    parser.add_argument(
        '--num-clips',
        type=whole_number(4),
        default=64,
        help='the most, one of each video (default: 64)',
    )
    parser.add_argument(
        '--resolution',
        type=picture_size,
        default=128,
        help='pixels of the clips, before I3D resizes them (default: 128)',
    )
    parser.add_argument(
        '--threads', type=positive_int, default=1, help='default: %(default)s'
    )
    args = parser.parse_args()
    weights = args.weights or str(detector_file('i3d')[0])
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    # Ours checks the file.
    ours = {
        dtype: I3D(weights, eps=EPS, dtype=dtype).features
        for dtype in ('float32', 'bfloat16')
    }
    detectors = {BASELINE: build_baseline(weights)}
    detectors |= {f'ours, {dtype}': each for dtype, each in ours.items()}
    videos = real_clips(dict(data_root=args.data), 16, args.resolution)
    chosen = own_share(videos, args.num_clips)
    if len(chosen) < 4:
        raise InputError(
            f'{len(chosen)} clips of 16 frames: a distance takes 2 on either '
            'side'
        )
    clips = torch.stack([chosen[i]['video'] for i in range(len(chosen))])
    features, seconds = take_turns(
        detectors, list(clips.split(CLIPS_AT_A_TIME))
    )
    distances = {k: distance_of_halves(v) for k, v in features.items()}
    rows = [['', 'CPU s/clip', 'clock', 'x cd-fvd', 'distance', 'off by']]
    for name, times in seconds.items():
        cpu, clock = (median(each) for each in zip(*times))
        ratios = [b[0] / a[0] for a, b in zip(times, seconds[BASELINE])]
        error = abs(distances[name] / distances[BASELINE] - 1)
        rows.append(
            [
                name,
                f'{cpu:.3f}',
                f'{clock:.3f}',
                f'{median(ratios):.2f}',
                f'{distances[name]:.6g}',
                f'{error:.1e}',
            ]
        )
    print(format_table(rows))


if __name__ == '__main__':
    run_tool(main)
