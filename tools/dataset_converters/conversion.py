"""The command line that all converters share."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from stylegan_v_mm.cli import picture_size, tool_parser, whole_number
from stylegan_v_mm.datasets.conversion.jobs import Job, do_jobs
from stylegan_v_mm.errors import InputError

MAX_LINES = 20  # about skipped videos; the report has all


def make_parser(
    description: str, src: str, out: str
) -> argparse.ArgumentParser:
    """Return a parser with the arguments of all converters."""
    parser = tool_parser(description)
    parser.add_argument('src', type=Path, help=src)
    parser.add_argument('out', type=Path, help=out)
    parser.add_argument(
        '--num-workers',
        type=whole_number(1, 1024),
        default=os.cpu_count(),
        help='videos converted at a time; default: number of cores',
    )
    parser.add_argument(
        '--keep-damaged',
        action='store_true',
        help='use the longest intact stretch of damaged videos',
    )
    return parser


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add options for the format of frame folders."""
    parser.add_argument(
        '--format',
        choices=['png', 'webp', 'jpg'],
        default='png',
        help='png and webp are lossless; default: png',
    )
    parser.add_argument(
        '--quality',
        type=whole_number(1, 95),
        metavar='1..95',
        default=95,
        help='of jpg files; default: 95',
    )


def add_resolution(parser: argparse.ArgumentParser) -> None:
    """Add an option to resize frames."""
    parser.add_argument(
        '--resolution',
        type=picture_size,
        help='crop the central square and resize it; default: as it is',
    )


def add_square_pixels(parser: argparse.ArgumentParser) -> None:
    """Add an option to stretch frames as players do."""
    parser.add_argument(
        '--square-pixels',
        action='store_true',
        help='stretch frames whose pixels are not square; default: leave them',
    )


def refuse_zip(out: Path) -> None:
    """Check that OUT is a folder, for what cannot be read from a zip."""
    if out.suffix == '.zip':
        raise InputError(f'{out}: OUT must be a folder, not a zip')


def run_jobs(
    args: argparse.Namespace, plan: Callable[[argparse.Namespace], list[Job]]
) -> None:
    """Do the jobs that are not done yet, and print what was done.

    Args:
        args: The command line, from :func:`make_parser`. All of it but
            ``out``, ``num_workers`` and ``keep_damaged`` decides how the
            videos look, and is kept.
        plan: Lists the jobs.

    Raises:
        InputError: See ``do_jobs``.
    """
    settings = {'tool': Path(sys.argv[0]).stem} | vars(args)
    settings['src'] = str(args.src.resolve())
    for key in ('out', 'num_workers', 'keep_damaged'):
        del settings[key]
    report = do_jobs(
        src=args.src,
        out=args.out,
        plan=lambda: plan(args),
        settings=settings,
        num_workers=args.num_workers,
    )
    print(
        ('' if report.made else 'nothing to do: ')
        + f'{args.out}: {len(report.made)} made, {len(report.there)} there '
        f'already, {len(report.skipped)} skipped; see {report.file}'
    )
    for source, problem in list(report.skipped.items())[:MAX_LINES]:
        print(f'skipped {source}: {problem}')
    if len(report.skipped) > MAX_LINES:
        print(f'skipped {len(report.skipped) - MAX_LINES} more')
