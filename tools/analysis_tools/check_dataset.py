r"""Show what a folder or zip of videos holds and what to set in the config.

The tool searches frames that are spread over the data for what a model would
learn wrongly: cuts, borders, captions, standstill, repeated or interlaced
frames, flicker and copies. It also measures how fast one core reads clips, and
advises what would make that faster. To find damage, it decodes the first and
the last frames of video files. With --thorough, all frames are decoded.

Example:
    python tools/analysis_tools/check_dataset.py data/clips \
        --preview clips.png --plot histograms.png
"""

from pathlib import Path

from PIL import Image

from stylegan_v_mm.cli import (
    count,
    picture_size,
    positive_int,
    run_tool,
    tool_parser,
)
from stylegan_v_mm.datasets.survey import (
    advise,
    config_lines,
    contact_sheet,
    describe,
    describe_findings,
    findings_sheet,
    histograms,
    largest_resolution,
    look_at_videos,
    measure_motion,
    measure_reading,
    survey_videos,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write, check_parent


def main() -> None:
    """Read the command line and print the table."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'data', help='folder of videos, or folder or zip of frame folders'
    )
    parser.add_argument('--num-frames', type=positive_int, default=3)
    parser.add_argument('--max-dist', type=count, default=32)
    parser.add_argument(
        '--resolution',
        type=picture_size,
        help='of training; default: the largest that the videos allow',
    )
    parser.add_argument(
        '--labels', help='"folder", or a .json or .csv file of labels'
    )
    parser.add_argument(
        '--search',
        type=positive_int,
        default=5000,
        metavar='N',
        help='about how many frames to search for flaws',
    )
    parser.add_argument(
        '--thorough',
        action='store_true',
        help='decode all frames, to find every damaged one and every flaw',
    )
    parser.add_argument(
        '--preview', type=Path, help='contact sheet to write (.png)'
    )
    parser.add_argument('--plot', type=Path, help='histograms to write (.png)')
    parser.add_argument(
        '--flaws', type=Path, help='picture of the flaws to write (.png)'
    )
    args = parser.parse_args()
    pictures = [args.preview, args.plot, args.flaws]
    pictures = [path for path in pictures if path]
    for path in pictures:
        if path.suffix not in ('.png', '.jpg'):
            raise InputError(f'{path}: give a .png or .jpg file')
        check_parent(path)
    survey = survey_videos(
        data=args.data,
        labels=args.labels,
        num_frames=args.num_frames,
        max_dist=args.max_dist,
        thorough=args.thorough,
    )
    resolution = args.resolution
    if resolution is None:
        resolution = largest_resolution(survey)
    reading = measure_reading(survey, resolution)
    looks = look_at_videos(survey, None if args.thorough else args.search)
    rows = [
        *describe(survey),
        *describe_findings(survey, looks),
        (
            'reading',
            f'{reading.rate:.3g} clips of {args.num_frames} frames a second '
            f'on one core, at {resolution} px',
        ),
        *advise(survey, reading, resolution),
    ]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        print(f'{key:{width}}  {value}')
    motion = measure_motion(survey)
    print('\nlines for a config')
    print('\n'.join(config_lines(survey, motion, args.resolution)))
    if args.preview:
        image = Image.fromarray(contact_sheet(survey))
        with atomic_write(args.preview) as temporary:
            kind = Image.registered_extensions()[args.preview.suffix]
            image.save(temporary, kind)
    if args.plot:
        figure = histograms(survey, motion)
        with atomic_write(args.plot) as temporary:
            figure.savefig(temporary, format=args.plot.suffix[1:])
    if args.flaws and not looks.findings:
        pictures.remove(args.flaws)
    elif args.flaws:
        sheet = findings_sheet(survey, looks.findings)
        with atomic_write(args.flaws) as temporary:
            sheet.save(
                temporary, Image.registered_extensions()[args.flaws.suffix]
            )
    for path in pictures:
        print(f'\npicture in {path}')


if __name__ == '__main__':
    run_tool(main)
