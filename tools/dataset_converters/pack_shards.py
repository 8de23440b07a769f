r"""Pack videos or folders of frames into tar files of about one size.

Such shards are for data that do not fit on the machines that train; see
docs/data_preparation.md. Each video is in one shard, and its files lie
together in their order, as in the WebDataset convention.

Example:
    python tools/dataset_converters/pack_shards.py data/mine shards \
        --megabytes 256
"""

import tarfile
from pathlib import Path

from tqdm import tqdm

from stylegan_v_mm.cli import positive_float, run_tool, tool_parser
from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.datasets.sources.listing import natural_key
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write


def files_of(root: Path, name: str) -> list[Path]:
    """List the files of a video, in their order."""
    path = root / name
    if path.is_file():
        return [path]
    files = [x for x in path.iterdir() if x.is_file()]
    return sorted(files, key=lambda x: natural_key(x.name))


def divide(videos: list[list[Path]], most: float) -> list[list[list[Path]]]:
    """Divide videos into shards of at most so many bytes, or of one video."""
    shards: list[list[list[Path]]] = []
    size = most
    for files in videos:
        here = sum(file.stat().st_size for file in files)
        if not shards or size + here > most:
            shards.append([])
            size = 0
        shards[-1].append(files)
        size += here
    return shards


def main() -> None:
    """Read the command line and pack."""
    parser = tool_parser(__doc__)
    parser.add_argument('src', type=Path, help='folder of videos or frames')
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument(
        '--megabytes',
        type=positive_float,
        default=256,
        help='of a shard, at most; default: 256',
    )
    args = parser.parse_args()
    if not args.src.is_dir():
        raise InputError(f'{args.src}: give a folder of videos or frames')
    if args.out.exists():
        raise InputError(f'{args.out} exists: remove it or give another OUT')
    videos = [files_of(args.src, x.name) for x in find_videos(args.src)]
    shards = divide(videos, 1e6 * args.megabytes)
    with atomic_write(args.out) as temporary:
        temporary.mkdir()
        for number, shard in enumerate(tqdm(shards, unit='shard')):
            path = temporary / f'{args.src.name}-{number:04d}.tar'
            with tarfile.open(path, 'w') as archive:
                for files in shard:
                    for file in files:
                        archive.add(file, file.relative_to(args.src))
    last = len(shards) - 1
    print(
        f'{len(videos)} videos in {len(shards)} shards: '
        f'{args.out}/{args.src.name}-{{0000..{last:04d}}}.tar'
    )


if __name__ == '__main__':
    run_tool(main)
