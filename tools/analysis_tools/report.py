"""Write a training run as one HTML page, which needs no network.

Previews that play, curves, metrics with their protocol, settings that differ
from the published ones, the data, the machine and versions: a file to send.

    python tools/analysis_tools/report.py work_dirs/mine
"""

from pathlib import Path

from stylegan_v_mm.cli import run_tool, tool_parser
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import check_parent
from stylegan_v_mm.pages import write_page
from stylegan_v_mm.reports.page import run_page

PUBLISHED = Path(__file__).parents[2] / 'configs/stylegan_v/ucf101.py'


def main() -> None:
    """Read the command line and write the page."""
    parser = tool_parser(__doc__)
    parser.add_argument('work_dir', type=Path)
    parser.add_argument(
        '--out',
        type=Path,
        help='.html to write; by default report.html in the work dir',
    )
    args = parser.parse_args()
    path = args.out or args.work_dir / 'report.html'
    if path.suffix != '.html':
        raise InputError(f'{path}: the page must end in .html')
    check_parent(path)
    published = PUBLISHED if PUBLISHED.exists() else None
    parts = list(run_page(args.work_dir, published))
    write_page(path, f'Training run {args.work_dir.resolve().name}', parts)
    print(f'report in {path}, {path.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    run_tool(main)
