r"""Measure trained generators with the metrics of their config.

python tools/test.py CONFIG CHECKPOINT
python tools/test.py CONFIG WORK_DIR --num-runs 3
python tools/test.py rc_track_64

Results are printed, appended to WORK_DIR/metrics.jsonl, and handed to the
visualizer.
"""

import json
import re
from pathlib import Path
from statistics import fmean, stdev

from stylegan_v_mm.cli import (
    add_cfg_options,
    positive_int,
    read_options,
    run_tool,
    tool_parser,
)
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import SafeCheckpointHook, VideoGANRunner
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.results import (
    RUN_STD,
    append_results,
    format_table,
    protocols,
)
from stylegan_v_mm.files import atomic_write, check_parent
from stylegan_v_mm.inference import find_model


def find_checkpoints(paths: list[str]) -> list[str]:
    """Replace a work dir by its checkpoints, in their order.

    Args:
        paths: Files, URLs and work dirs.

    Returns:
        Files and URLs.

    Raises:
        InputError: There is none in a folder.
    """
    checkpoints = []
    for path in paths:
        if not Path(path).is_dir():
            checkpoints.append(path)
            continue
        # The best one may be there under its number, too.
        found = {
            int(match[1]): str(file)
            for file in sorted(Path(path).glob('*.pth'))
            if (match := re.fullmatch('(?:best_.+_)?iter_([0-9]+)', file.stem))
        }
        if not found:
            raise InputError(f'{path} holds no checkpoint iter_*.pth')
        checkpoints += [found[number] for number in sorted(found)]
    return checkpoints


def measure(runner: VideoGANRunner, num_runs: int) -> dict[str, float]:
    """Measure what is loaded, several times with seeds of their own.

    Args:
        runner: Has loaded a checkpoint.
        num_runs: How often.

    Returns:
        The metrics by name; with several runs their means, and the standard
        deviations over the runs as ``NAME-run-std``.
    """
    seeds, runs = runner.test_loop.dataloader.dataset, []
    first = seeds.first_seed
    for run in range(num_runs):
        seeds.first_seed = first + run * len(seeds)
        runs.append(runner.test())
    seeds.first_seed = first
    if num_runs == 1:
        return runs[0]
    metrics = {}
    for name in runs[0]:
        if not all(name in run for run in runs):
            continue  # A class that has too few clips in some run.
        values = [run[name] for run in runs]
        metrics[name] = fmean(values)
        # Errors and real videos' numbers have none of interest.
        if not name.endswith(('-se', '-std', '-real')):
            metrics[f'{name}{RUN_STD}'] = stdev(values)
    return metrics


def name_the_best(results: dict[str, dict[str, float]]) -> str:
    """Name the best checkpoint by the first metric."""
    name = next(iter(next(iter(results.values()))))
    try:
        hook = SafeCheckpointHook(1, save_best=name)
    except InputError:
        return f'Whether more or less {name} is better is not known.'
    is_better = hook.is_better_than[name]
    best, *others = results
    for path in others:
        if is_better(results[path][name], results[best][name]):
            best = path
    return f'The best by {name}, the {hook.rules[0]} the better: {best}'


def main() -> None:
    """Parse the command line, measure, and print the metrics."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'model',
        help='config file, or any that tools/generate.py takes as a model',
    )
    parser.add_argument(
        'checkpoints',
        nargs='*',
        metavar='checkpoint',
        help='files of a training run, or its work dir for all that are '
        'there; not needed if the model is no config',
    )
    parser.add_argument('--work-dir', help='for logs and results')
    parser.add_argument(
        '--out', help='a .json file for the metrics, by checkpoint if several'
    )
    parser.add_argument(
        '--num-runs',
        type=positive_int,
        default=1,
        help='measure so often, with other seeds each time, for means and '
        'standard deviations',
    )
    parser.add_argument(
        '--no-cache',
        action='store_true',
        help='compute the statistics of real videos anew, and keep none',
    )
    add_cfg_options(parser, 'num_test_videos=256')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none'
    )
    # torchrun and older launchers pass it; the environment has it as well.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()

    out = Path(args.out) if args.out else None
    if out is not None:
        check_parent(out)
    checkpoints = find_checkpoints(args.checkpoints)
    files = find_model(args.model, checkpoints[0] if checkpoints else None)
    found = [checkpoints or [files.checkpoint]]
    options = {**read_options(args.cfg_options), 'launcher': args.launcher}
    if args.work_dir:
        options['work_dir'] = args.work_dir
    runner = VideoGANRunner.from_cfg(load_config(files.config, options))
    # mmengine is imported after ours, which may have to name it a user.
    from mmengine.dist import broadcast_object_list

    # Training may go on meanwhile: all measure what the main process found.
    broadcast_object_list(found)
    (checkpoints,) = found
    if args.no_cache:
        for metric in runner.test_loop.evaluator.metrics:
            metric.cache = False
    # That all can be loaded shows before the first one is measured.
    for path in checkpoints[1:]:
        runner.load_checkpoint(path)
    results = {}
    for path in checkpoints:
        meta = runner.load_checkpoint(path).get('meta', {})
        metrics = results[path] = measure(runner, args.num_runs)
        if runner.rank != 0:
            continue
        iteration = meta.get('iter', 0)
        runner.visualizer.add_scalars(
            {f'test/{name}': value for name, value in metrics.items()},
            step=iteration,
        )
        about = dict(
            checkpoint=path,
            iter=iteration,
            kimg=int(runner.model.frames_seen) / 1000,
            config=files.config,
            num_runs=args.num_runs,
            protocols=protocols(
                runner.test_loop.evaluator.metrics,
                metrics,
                len(runner.test_loop.dataloader.dataset),
            ),
        )
        append_results(
            Path(runner.work_dir, 'metrics.jsonl'), [{**about, **metrics}]
        )
    if runner.rank != 0:
        return
    if len(results) == 1:
        for name, value in metrics.items():
            print(f'{name}: {value:.4f}')
    else:
        stems = [Path(path).stem for path in results]
        heads = stems if len({*stems}) == len(stems) else [*results]
        rows = [
            [name, *(f'{values[name]:.4f}' for values in results.values())]
            for name in metrics
        ]
        print(format_table([['', *heads], *rows]))
        print(name_the_best(results))
    if out is not None:
        content = results if len(results) > 1 else metrics
        with atomic_write(out) as temporary:
            temporary.write_text(json.dumps(content) + '\n')


if __name__ == '__main__':
    run_tool(main)
