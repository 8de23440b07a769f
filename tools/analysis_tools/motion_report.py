"""Compare how the videos of two data sets move, in a table and a picture.

Real against generated ones, or any two. What the numbers mean, and what they
are blind to: docs/metrics.md.

Example:
    python tools/analysis_tools/motion_report.py data/clouds generated.zip
"""

from pathlib import Path

from stylegan_v_mm.cli import (
    picture_size,
    positive_int,
    run_tool,
    tool_parser,
    whole_number,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.motion_report import (
    MIN_NUM_FRAMES,
    compare,
    mean_motion,
    measure_motion,
)
from stylegan_v_mm.evaluation.results import append_results, format_table
from stylegan_v_mm.files import check_parent
from stylegan_v_mm.reports.motion import draw_motion
from stylegan_v_mm.reports.style import save_picture


def table(values: dict[str, float]) -> list[list[str]]:
    """Lay out what :func:`compare` gave: rows of cells."""
    rows = [['', 'real', 'fake']]
    for name, value in values.items():
        if f'{name}-real' in values:
            rows.append(
                [name, f'{values[f"{name}-real"]:.4g}', f'{value:.4g}']
            )
        elif not name.endswith('-real'):
            rows.append([name, '', f'{value:.4g}'])
    return rows


def main() -> None:
    """Read the command line, measure, print, and draw."""
    parser = tool_parser(__doc__)
    parser.add_argument('real', help='folder, zip or video file')
    parser.add_argument('fake', help='folder, zip or video file')
    parser.add_argument(
        '--num-clips',
        type=positive_int,
        default=256,
        help='the most of either side, one a video (default: 256)',
    )
    parser.add_argument(
        '--num-frames',
        type=whole_number(MIN_NUM_FRAMES, 10**6),
        default=64,
        help='of a clip; shorter videos are left out (default: 64)',
    )
    parser.add_argument(
        '--resolution',
        type=picture_size,
        default=128,
        help='height and width in pixels that all frames get before anything '
        'is measured: central square, resized (default: 128)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('motion_report.png'),
        help='picture to write (default: %(default)s)',
    )
    parser.add_argument(
        '--json', type=Path, help='a .jsonl file to append the results to'
    )
    args = parser.parse_args()
    if args.out.suffix != '.png':
        raise InputError(f'{args.out}: the picture must end in .png')
    for path in filter(None, [args.out, args.json]):
        check_parent(path)
    real, fake = (
        measure_motion(data, args.num_clips, args.num_frames, args.resolution)
        for data in (args.real, args.fake)
    )
    values = compare(mean_motion(fake), mean_motion(real))
    print(format_table(table(values)))
    if args.json:
        about = dict(
            real_clips=len(real.frozen),
            fake_clips=len(fake.frozen),
            real=args.real,
            fake=args.fake,
            num_frames=args.num_frames,
            resolution=args.resolution,
        )
        append_results(
            args.json,
            [
                dict(metric=name, value=value, **about)
                for name, value in values.items()
            ],
        )
    sets = [(args.real, real), (args.fake, fake)]
    save_picture(draw_motion(sets, args.num_frames), args.out)
    print(f'picture in {args.out}')


if __name__ == '__main__':
    run_tool(main)
