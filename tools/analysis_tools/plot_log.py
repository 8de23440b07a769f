"""Draw the curves of training runs, resumed ones as one, into a picture.

Examples:
    python tools/analysis_tools/plot_log.py work_dirs/clouds
    python tools/analysis_tools/plot_log.py work_dirs/a work_dirs/b --out x.png
    python tools/analysis_tools/plot_log.py work_dirs/mine --reference good_run
"""

from pathlib import Path

from stylegan_v_mm.cli import run_tool, tool_parser
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import check_parent
from stylegan_v_mm.reports.curves import read_reference, read_run, save_curves
from stylegan_v_mm.reports.style import save_picture
from stylegan_v_mm.reports.training import draw_runs


def main() -> None:
    """Read the command line, draw, and print where the picture is."""
    parser = tool_parser(__doc__)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR')
    parser.add_argument(
        '--out',
        type=Path,
        help='.png to write; by default report.png in the first work dir',
    )
    parser.add_argument(
        '--reference',
        metavar='RUN',
        help='draw over the curves of this run: a work dir, a file of '
        '--save-curves, or the name of a model that comes with the package',
    )
    parser.add_argument(
        '--save-curves',
        type=Path,
        metavar='FILE',
        help='.json to write, too: the curves, as a reference for other runs',
    )
    args = parser.parse_args()
    path = args.out or Path(args.work_dirs[0], 'report.png')
    if path.suffix != '.png':
        raise InputError(f'{path}: the picture must end in .png')
    check_parent(path)
    curves = args.save_curves
    if curves and (len(args.work_dirs) > 1 or curves.suffix != '.json'):
        raise InputError(
            f'--save-curves {curves}: give one work dir, and a file that ends '
            'in .json'
        )
    if curves:
        check_parent(curves)
    runs = [read_run(folder) for folder in args.work_dirs]
    reference = (
        read_reference(args.reference) if args.reference is not None else None
    )
    save_picture(draw_runs(runs, reference), path)
    print(f'report in {path}')
    if curves:
        save_curves(runs[0], curves)
        print(f'curves in {curves}')


if __name__ == '__main__':
    run_tool(main)
