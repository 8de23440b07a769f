r"""Make clips to train on from raw footage, in one command.

All frames are searched for flaws. Videos are cut where the scene changes;
black and blurred borders are cropped, and captions near an edge with them;
standstill, copies of other videos, flicker and repeated frames are left out;
interlaced frames are joined; pixels become square. The page OUT.html shows
what was kept, and why not the rest. Sources are never changed. The command can
be interrupted and given again.

Examples:
    python tools/dataset_converters/prepare.py footage data/mine --dry-run
    python tools/dataset_converters/prepare.py footage data/mine \
        --resolution 256 --fps 25
"""

import argparse
import shutil
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from conversion import (
    add_resolution,
    make_parser,
    refuse_zip,
    run_jobs,
)

from stylegan_v_mm.cli import frame_rate, positive_int, run_tool
from stylegan_v_mm.datasets.conversion.analysis import analyse
from stylegan_v_mm.datasets.conversion.frames import (
    fps_of,
    output_names,
    problem_of,
    write_mp4,
    write_pictures,
)
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.conversion.preparation import (
    Lengths,
    Plan,
    PlannedVideo,
    plan_shots,
    read_shot,
)
from stylegan_v_mm.datasets.conversion.preparation_page import (
    preparation_page,
)
from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.datasets.survey.findings import DAMAGED
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.pages import write_page
from stylegan_v_mm.video.index import name_damaged

# Frames that are written to estimate the size of all.
_TRIAL = 64


def plan_videos(args: argparse.Namespace) -> Plan:
    """Search the videos, and choose what to keep of them."""
    sources = find_videos(args.src)
    problems = [problem_of(source, args.keep_damaged) for source in sources]
    good = [x for x, problem in zip(sources, problems) if not problem]
    findings = analyse(good, args.out / '.analysis', args.num_workers)
    found = dict(zip((source.name for source in good), findings))
    lengths = Lengths(args.min_frames, args.max_frames, args.fps)
    videos = []
    for source, problem in zip(sources, problems):
        if problem:
            videos.append(PlannedVideo(source, [], [], 0, problem))
            continue
        flaws = found[source.name]
        damaged = [
            i
            for x in flaws
            if x.kind == DAMAGED
            for i in range(x.start, x.end)
        ]
        if damaged and not args.keep_damaged:
            problem = name_damaged(np.array(damaged))
            videos.append(PlannedVideo(source, [], [], 0, problem))
            continue
        planned = plan_shots(len(source), fps_of(source), flaws, lengths)
        videos.append(PlannedVideo(source, *planned))
    return Plan(videos)


def list_jobs(args: argparse.Namespace, plan: Plan) -> list[Job]:
    """List the clips to be made."""
    jobs = []
    names = output_names([video.source for video in plan.videos])
    for name, video in zip(names, plan.videos):
        if not video.shots:
            reason = video.problem
            if video.dropped:
                most = max(video.dropped, key=lambda x: x.end - x.start)
                reason = f'nothing is left of it: {most.reason}'
            jobs.append(
                Job(
                    source=video.source.name,
                    name=name,
                    num_items=0,
                    items=partial(iter, ()),
                    write=write_mp4,
                    problem=reason,
                )
            )
        for shot in video.shots:
            write = partial(write_pictures, format=args.format, quality=95)
            suffix = ''
            if args.format == 'mp4':
                write = partial(write_mp4, fps=video.fps, crf=16, gop=args.gop)
                suffix = '.mp4'
            first, last = shot.frames[0], shot.frames[-1]
            jobs.append(
                Job(
                    source=f'{video.source.name}, frames {first} to {last}',
                    name=f'{name}_{first:06d}{suffix}',
                    num_items=len(shot.frames),
                    items=partial(
                        read_shot, video.source, shot, args.resolution
                    ),
                    write=write,
                )
            )
    return jobs


def estimate_bytes(jobs: list[Job]) -> float:
    """Estimate the size of all clips from the beginning of one."""
    job = next((x for x in jobs if not x.problem), None)
    if job is None:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(job.name).name)
        job.write(islice(job.items(), _TRIAL), path)
        files = [path] if path.is_file() else [*path.iterdir()]
        size = sum(file.stat().st_size for file in files)
    frames = sum(x.num_items for x in jobs)
    return size * frames / min(job.num_items, _TRIAL)


def main() -> None:
    """Read the command line, look, and make clips."""
    parser = make_parser(
        __doc__, 'folder of videos, or a video file', 'folder to make'
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='write the report, but no clips',
    )
    parser.add_argument(
        '--fps',
        type=frame_rate,
        help='frames a second, at most; default: as they are',
    )
    parser.add_argument(
        '--min-frames',
        type=positive_int,
        default=32,
        help='drop shorter clips; default: 32',
    )
    parser.add_argument(
        '--max-frames',
        type=positive_int,
        default=1024,
        help='divide longer clips; default: 1024',
    )
    parser.add_argument(
        '--gop',
        type=positive_int,
        default=4,
        help='of mp4: frames from one key frame to the next, at most',
    )
    parser.add_argument(
        '--format',
        choices=['mp4', 'png', 'webp', 'jpg'],
        default='mp4',
        help='of clips: video files, or folders of frames; default: mp4',
    )
    add_resolution(parser)
    args = parser.parse_args()
    refuse_zip(args.out)
    plan = plan_videos(args)
    jobs = list_jobs(args, plan)
    size = estimate_bytes(jobs)
    free = shutil.disk_usage(args.out).free
    frames = sum(len(video.source) for video in plan.videos)
    facts = [
        ('clips', f'{plan.num_clips}, {plan.num_frames} frames'),
        ('of', f'{len(plan.videos)} videos, {frames} frames'),
        ('size', f'about {size / 1e6:,.3g} MB; {free / 1e6:,.3g} MB are free'),
    ]
    page = args.out.with_name(f'{args.out.name}.html')
    title = f'What becomes of {args.src}'
    write_page(page, title, preparation_page(facts, plan))
    for key, value in facts:
        print(f'{key:6}{value}')
    print(f'report in {page}')
    if args.dry_run:
        return
    if size > free:
        raise InputError(
            f'{args.out}: the disk has no room for the clips: free some, or '
            'give a smaller --resolution'
        )
    del args.dry_run
    run_jobs(args, lambda _: jobs)


if __name__ == '__main__':
    run_tool(main)
