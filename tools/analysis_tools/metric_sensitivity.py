"""Show what each metric sees: spoil real videos, and measure that.

Videos are cut into clips. Every other clip is the real data; the same clips,
spoilt in one way after another, stand for generated ones. The rest, real as
well, shows how far apart two sets of so many clips are by chance.

With --halves, the videos of every other number are the real data, and the
others are spoilt, as a model's clips are never the real ones. "above" is then
by how many standard errors a distance lies above that of the unspoilt half. A
second table shows this distance by the number of clips: the least that a model
can reach.

Example:
    python tools/analysis_tools/metric_sensitivity.py data/clouds --halves
"""

from torch import nn
from tqdm import tqdm

from stylegan_v_mm.cli import (
    picture_size,
    positive_int,
    run_tool,
    tool_parser,
    whole_number,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FlowHistograms
from stylegan_v_mm.evaluation.detectors.configs import i3d_config
from stylegan_v_mm.evaluation.motion_report import MIN_NUM_FRAMES
from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.evaluation.sensitivity import (
    OTHER,
    SPOILT,
    Clip,
    Spoil,
    cut,
    halve,
    measure,
    table,
    table_of_chance,
    unchanged,
)
from stylegan_v_mm.registry import MODELS


def main() -> None:
    """Read the command line, measure, and print the table."""
    parser = tool_parser(__doc__)
    parser.add_argument('data', help='folder, zip or video file')
    parser.add_argument(
        '--num-clips',
        type=whole_number(4),
        default=512,
        help='the most, half of them real (default: 512)',
    )
    parser.add_argument(
        '--num-frames',
        type=positive_int,
        default=16,
        help='of a clip (default: 16)',
    )
    parser.add_argument(
        '--resolution',
        type=picture_size,
        default=64,
        help='pixels (default: 64)',
    )
    parser.add_argument(
        '--halves',
        action='store_true',
        help='compare clips of different videos, and show standard errors',
    )
    parser.add_argument(
        '--detector',
        default='i3d',
        help='what tools/get_detectors.py got (default: %(default)s), another '
        "file of I3D, by path or URL, or 'random', which needs no file",
    )
    args = parser.parse_args()
    i3d = MODELS.build(i3d_config(args.detector))
    length = args.num_frames
    detectors: dict[str, nn.Module] = {
        'FVD-random' if i3d.is_random else f'FVD{length}': i3d,
        f'FlowDist{length}': FlowHistograms(),
    }
    least = max(each.min_num_frames for each in detectors.values())
    least = max(MIN_NUM_FRAMES, least)
    if args.num_frames < least:
        raise InputError(
            f'--num-frames {args.num_frames} must be at least {least}'
        )
    clips = cut(args.data, args.num_frames, args.resolution, args.num_clips)
    real, other = halve(clips) if args.halves else (clips[::2], clips[1::2])
    unspoilt = {'itself': real, OTHER: other}
    sets: dict[str, tuple[list[Clip], Spoil]] = {
        name: (sound, unchanged) for name, sound in unspoilt.items()
    }
    spoilt = other if args.halves else real
    sets |= {name: (spoilt, spoil) for name, spoil in SPOILT.items()}
    results = {
        name: measure(sound, spoil, detectors)
        for name, (sound, spoil) in tqdm(sets.items(), disable=None)
    }
    print(format_table(table(results, args.halves)))
    if args.halves:
        print()
        print(format_table(table_of_chance(results[OTHER], results['itself'])))


if __name__ == '__main__':
    run_tool(main)
