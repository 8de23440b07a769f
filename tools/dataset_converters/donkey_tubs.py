r"""Cut the recordings of Donkey Cars, called tubs, into clips.

A tub holds numbered pictures and a record of each: its time, the steering and
the throttle. Newer cars write catalogs and a manifest that marks deleted
records, older ones a ``record_N.json`` for each picture. SRC is a tub or a
folder of tubs at any depth; ``TUB/images/560_...jpg`` to ``698_...jpg`` become
``OUT/TUB/00560_00698.mp4``, of the pictures' own size.

A clip ends where a record was marked as deleted or is damaged, where its
picture is missing, repeats the one before or has another size, where more than
``--max-gap`` milliseconds lie between two records, and where the car stands
still: where for half a second its speed (if that is not recorded, its
throttle) is 0 or the picture changes by less than 2 of 255 grey levels. The
report names all that is left out. Damaged pictures are left out with
``--keep-damaged``, too.

``--list`` makes the clips of a csv file instead, whatever the rules above say.
Its columns are ``clip`` (name of the file), ``source_folder`` (of the
pictures, in SRC), ``first_image`` and ``last_image`` (their numbers), and, if
wanted, ``split``: the folder in OUT, such as train or held_out.

Examples, for a car of one's own, and for the driving of configs rc_track_*:
    python tools/dataset_converters/donkey_tubs.py mycar/data data/my_car
    python tools/dataset_converters/donkey_tubs.py donkeycar data/rc_track \
        --list configs/_lists/rc_track.csv
"""

import argparse
from functools import partial

from conversion import make_parser, refuse_zip, run_jobs

from stylegan_v_mm.cli import (
    frame_rate,
    positive_float,
    positive_int,
    real_number,
    run_tool,
)
from stylegan_v_mm.datasets.conversion.donkey_tubs import listed_jobs, tub_jobs
from stylegan_v_mm.datasets.conversion.frames import write_mp4
from stylegan_v_mm.datasets.conversion.jobs import Job


def plan(args: argparse.Namespace) -> list[Job]:
    """List the clips to be made."""
    refuse_zip(args.out)
    write = partial(write_mp4, fps=args.fps, crf=args.crf, gop=args.gop)
    if args.list is not None:
        return listed_jobs(args.src, args.list, write)
    return tub_jobs(
        src=args.src,
        write=write,
        fps=args.fps,
        max_gap=args.max_gap,
        min_frames=args.min_frames,
    )


def main() -> None:
    """Read the command line and cut."""
    parser = make_parser(
        __doc__, 'a tub, or a folder of tubs', 'folder to make'
    )
    parser.add_argument('--list', help='csv file of the clips to make')
    parser.add_argument(
        '--min-frames',
        type=positive_int,
        default=32,
        help='shorter clips are left out; default: 32, what a training clip '
        'spans',
    )
    parser.add_argument(
        '--max-gap',
        type=positive_float,
        default=130,
        metavar='MS',
        help='longest time between two frames of a clip; default: 130',
    )
    parser.add_argument(
        '--fps',
        type=frame_rate,
        default=20,
        help='frames per second, what the car records; default: 20',
    )
    parser.add_argument(
        '--gop',
        type=positive_int,
        default=12,
        help='frames from one key frame to the next, at most; default: 12',
    )
    parser.add_argument(
        '--crf',
        type=real_number(0, 51),
        default=21,
        help='quality of x264, from 0 (best) to 51; default: 21',
    )
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
