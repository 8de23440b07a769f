"""Show the real frames that generated ones are most like: is it memorised?

All frames of REAL are compared with frames that are spread over each other
data set, by LPIPS. The table shows the distances to the nearest real frame.
Give videos that were held out of training as well: a model that copies its
data is much closer to REAL than they are. The picture shows frames of the
first of these data sets, each above the nearest frame of each of the three
nearest videos of REAL.

Example:
    python tools/generate.py rc_track_64 --num-videos 64 --out samples
    python tools/get_detectors.py lpips
    python tools/analysis_tools/nearest_frames.py data/rc_track/train samples \
        data/rc_track/held_out
"""

from pathlib import Path

import torch

from stylegan_v_mm.cli import (
    picture_size,
    positive_int,
    run_tool,
    tool_parser,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.detectors.lpips import load_lpips
from stylegan_v_mm.evaluation.nearest import nearest_frames, spread_frames
from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.files import atomic_write, check_parent
from stylegan_v_mm.video.encoding import video_grid
from stylegan_v_mm.video.pictures import pictures

#: Frames in the picture, and those of REAL below each.
SHOWN, NEIGHBOURS = 16, 3


def main() -> None:
    """Read the command line, compare, print, and draw."""
    parser = tool_parser(__doc__)
    parser.add_argument('real', help='folder, zip or video file')
    parser.add_argument('others', nargs='+', help='folders, zips or videos')
    parser.add_argument(
        '--num-frames',
        type=positive_int,
        default=256,
        help='of each of the others (default: 256)',
    )
    parser.add_argument(
        '--resolution',
        type=picture_size,
        default=64,
        help='height and width in pixels that all frames get before anything '
        'is compared, at least 32: central square, resized (default: 64)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('nearest_frames.png'),
        help='picture to write (default: %(default)s)',
    )
    args = parser.parse_args()
    if args.out.suffix != '.png':
        raise InputError(f'{args.out}: the picture must end in .png')
    if args.resolution < 32:
        raise InputError(f'--resolution {args.resolution} must be at least 32')
    check_parent(args.out)
    lpips = load_lpips('alex')
    sets = {
        data: spread_frames(data, args.num_frames, args.resolution)
        for data in args.others
    }
    # All at once, as reading REAL takes most of the time.
    samples = torch.cat(list(sets.values()))
    found = nearest_frames(samples, args.real, lpips, NEIGHBOURS)
    table = [['', 'frames', 'smallest', 'median', 'largest']]
    rest = found.distances[:, 0]
    for data, frames in sets.items():
        distances, rest = rest.tensor_split([len(frames)])
        spread = distances.quantile(torch.tensor([0, 0.5, 1]))
        table.append([data, str(len(frames)), *(f'{x:.3f}' for x in spread)])
    print(format_table(table))
    first = sets[args.others[0]]
    shown = torch.linspace(0, len(first) - 1, min(SHOWN, len(first))).long()
    columns = torch.cat([samples[shown, None], found.frames[shown]], 1)
    cells = columns.transpose(0, 1).flatten(0, 1)
    grid = video_grid(cells[:, None], len(shown))
    with atomic_write(args.out) as temporary:
        next(pictures([grid])).save(temporary, format='png')
    print(f'picture in {args.out}')


if __name__ == '__main__':
    run_tool(main)
