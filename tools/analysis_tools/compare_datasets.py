r"""Measure how far a data set of videos is from another one.

Example:
    python tools/analysis_tools/compare_datasets.py data/real samples.zip \
        --metrics fvd16 fvd128 --resolution 128

Both are folders of video files, folders or zips of frame folders, or video
files, made by anybody. REAL is measured as the real videos of tools/test.py
are: one clip of each video, at an offset that a fixed seed draws, of videos
spread over the data set. FAKE is measured as the published code measures a
folder of samples: the first videos in sorted order, each from frame 0. On
either side, videos shorter than a metric's clip are left out. With --disjoint,
all consecutive clips of a video count on either side: few, long videos are
too few clips otherwise.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from stylegan_v_mm.cli import picture_size, run_tool, tool_parser, whole_number
from stylegan_v_mm.datasets import VideoDataset
from stylegan_v_mm.datasets.workers import check_workers
from stylegan_v_mm.evaluation.detectors.configs import (
    detector_config,
    i3d_config,
)
from stylegan_v_mm.evaluation.metrics.base import BaseMetric
from stylegan_v_mm.evaluation.real_clips import clip_settings
from stylegan_v_mm.evaluation.results import append_results, format_table
from stylegan_v_mm.files import check_parent
from stylegan_v_mm.registry import METRICS

#: Frames of each video that metrics of images take.
FRAMES_PER_VIDEO = 16
FVD = dict(type='FrechetVideoDistance', detector='i3d')
IMAGES = dict(
    num_frames=1, clips_per_video=FRAMES_PER_VIDEO, detector='inception'
)
CHOICES = {
    'fvd16': dict(FVD, num_frames=16),
    'fvd16x8': dict(FVD, num_frames=16, frame_stride=8),
    'fvd128': dict(FVD, num_frames=128),
    'kvd16': dict(FVD, type='KernelDistance', num_frames=16),
    'pr16': dict(FVD, type='PrecisionRecall', num_frames=16),
    'flow16': dict(type='FlowDistance', num_frames=16),
    'fid': dict(IMAGES, type='FrechetVideoDistance'),
    'fd-vgg16': dict(IMAGES, type='FrechetVideoDistance', detector='vgg16'),
    'kid': dict(IMAGES, type='KernelDistance'),
    'is': dict(IMAGES, type='InceptionScore'),
    'isv16': dict(type='InceptionScore', num_frames=16, detector='c3d'),
    'motion': dict(type='MotionReport', num_frames=16),
}


def build_metrics(args: argparse.Namespace) -> list[BaseMetric]:
    """Build the metrics of the command line, as tools/test.py would."""
    detectors = {
        'i3d': lambda: i3d_config(args.detector),
        'inception': lambda: detector_config(
            args.inception, 'FIDInception', 'InceptionTorchScript'
        ),
        'vgg16': lambda: dict(type='VGG16'),
        'c3d': lambda: dict(type='C3DTorchScript', path=args.c3d),
    }
    metrics = []
    for name in dict.fromkeys(args.metrics):
        config = dict(CHOICES[name], resolution=args.resolution)
        if 'detector' in config:
            config['detector'] = detectors[config['detector']]()
        if config['type'] != 'InceptionScore':
            per_video = config.get('clips_per_video', 1)
            config['num_real'] = args.num_clips * per_video
            config['real_data'] = dict(
                data_root=args.real, disjoint=args.disjoint
            )
        metrics.append(METRICS.build(config))
    return metrics


def first_clips(
    data_root: str, span: int, resolution: int, num_clips: int, disjoint: bool
) -> Subset:
    """Return the first clips of videos, in the order of the videos.

    Args:
        data_root: Of a ``VideoDataset``.
        span: Frames in a row, T.
        resolution: Height and width in pixels, R.
        num_clips: The most clips.
        disjoint: Whether to use all consecutive clips of a video, not only
            that from frame 0.

    Returns:
        Items are dicts with ``video``, uint8 [T, 3, R, R].

    Raises:
        InputError: The videos cannot be read or are too short.
    """
    videos = VideoDataset(
        data_root,
        stretch=span if disjoint else None,
        **clip_settings(span, resolution, random_start=False),
    )
    return Subset(videos, range(min(num_clips, len(videos))))


def show(
    metrics: Iterable[BaseMetric], clips: Subset, num_workers: int, label: str
) -> None:
    """Pass clips to metrics, as a test loop does.

    Args:
        metrics: All of the same clips.
        clips: From :func:`first_clips`.
        num_workers: Processes that decode.
        label: Of the progress bar.
    """
    loader = DataLoader(clips, batch_size=8, num_workers=num_workers)
    with tqdm(
        desc=label, total=len(clips), unit='clip', disable=None
    ) as progress:
        for batch in loader:
            samples = [{'video': video} for video in batch['video']]
            for metric in metrics:
                metric.process({}, samples)
            progress.update(len(samples))


def main() -> None:
    """Read the command line, measure, print and write the results."""
    parser = tool_parser(__doc__)
    parser.add_argument('real', help='folder, zip or video file')
    parser.add_argument('fake', help='folder, zip or video file')
    parser.add_argument(
        '--metrics', nargs='+', choices=CHOICES, default=['fvd16']
    )
    parser.add_argument(
        '--resolution',
        type=picture_size,
        required=True,
        help='height and width in pixels that all frames get before anything '
        'is measured: central square, resized',
    )
    parser.add_argument(
        '--num-clips',
        type=whole_number(2),
        default=2048,
        help='the most of either side (default: 2048); metrics of images, '
        f'fid, fd-vgg16, kid and is, take {FRAMES_PER_VIDEO} frames for each',
    )
    parser.add_argument(
        '--disjoint',
        action='store_true',
        help='use all consecutive clips of a video instead of one',
    )
    parser.add_argument(
        '--detector',
        default='i3d',
        help='for fvd*, kvd16 and pr16: what tools/get_detectors.py got '
        '(default: %(default)s), another file of I3D, TorchScript or weights, '
        "by path or URL, or 'random', which needs no file and gives "
        'FVD-random and so on, which compare with nothing but themselves',
    )
    parser.add_argument(
        '--inception',
        default='checkpoints/inception-2015-12-05.pt',
        help='for fid, kid and is, TorchScript or weights '
        '(pt_inception-2015-12-05-6726825d.pth), by path or URL (default: '
        '%(default)s)',
    )
    parser.add_argument(
        '--c3d',
        default='checkpoints/c3d_ucf101.pt',
        help='TorchScript for isv16 (default: %(default)s)',
    )
    parser.add_argument(
        '--num-workers',
        type=whole_number(0, 1024),
        default=0,
        help='processes that decode',
    )
    parser.add_argument(
        '--out', type=Path, help='a .jsonl file to append the results to'
    )
    args = parser.parse_args()
    if args.out:
        check_parent(args.out)
    check_workers(args.num_workers)
    # Metrics of one length share the clips.
    by_span = defaultdict(list)
    for metric in build_metrics(args):
        by_span[metric.span].append(metric)
    fakes = {
        span: first_clips(
            args.fake, span, args.resolution, args.num_clips, args.disjoint
        )
        for span in by_span
    }
    results = []
    for span, metrics in by_span.items():
        clips = fakes[span]
        show(metrics, clips, args.num_workers, f'clips of {span} frames')
        for metric in metrics:
            about = dict(
                dict(real=args.real, fake=args.fake, num_real=0),
                **metric.protocol(len(clips)),
            )
            values = metric.evaluate(len(clips))
            found = [
                dict(
                    metric=name,
                    value=value,
                    standard_error=values.get(f'{name}-se'),
                    **about,
                )
                for name, value in values.items()
                if not name.endswith('-se')
            ]
            # At once: a later metric may fail.
            if args.out:
                append_results(args.out, found)
            results += found
    rows = [
        [
            result['metric'],
            *(
                '' if result[key] is None else f'{result[key]:.4f}'
                for key in ('value', 'standard_error')
            ),
            str(result['num_real']),
            str(result['num_fake']),
        ]
        for result in results
    ]
    heads = ['metric', 'value', 'standard error', 'real', 'fake']
    print(format_table([heads, *rows]))


if __name__ == '__main__':
    run_tool(main)
