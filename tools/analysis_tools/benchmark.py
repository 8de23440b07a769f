r"""Measure speed and memory, beside those of the published way to compute.

    python tools/analysis_tools/benchmark.py train
    python tools/analysis_tools/benchmark.py sample --dtype bfloat16

Networks have random weights and the sizes of a config. The baseline
(benchmarks/baseline.py) computes the same frame by frame, as the published
code does, and takes turns with our model in one process. The median of the
turns counts; the fastest and the slowest show how quiet the machine was.

On CPUs, memory makes much of the difference: glibc returns large blocks to
the system and gets them anew, zeroed, while our tools keep them. So the
baseline is measured twice there: with glibc's defaults ("as published") and
with our allocation.

"of peak" compares the FLOP/s of the work with those of the best of a few 3x3
convolutions, channels-last, in the same dtype.
"""

import argparse
import json
from dataclasses import fields
from pathlib import Path

import torch
from benchmarks import reading
from benchmarks.choices import choices_table, measure_choices
from benchmarks.evaluation import measure_evaluation
from benchmarks.measuring import OURS, Options, convolution_peak, ways
from benchmarks.memory import measure_memory
from benchmarks.models import baseline_dtype
from benchmarks.operations import measure_profile
from benchmarks.reports import about, report
from benchmarks.roofline import measure_roofline, roofline_table
from benchmarks.sampling import measure_all_sampling
from benchmarks.scaling import measure_scaling
from benchmarks.training import measure_training

from stylegan_v_mm.cli import (
    keep_freed_memory,
    positive_int,
    run_tool,
    tool_parser,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.files import atomic_write, check_parent

CONFIG = Path(__file__).parents[2] / 'configs/stylegan_v/ucf101.py'


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        InputError: A value is out of range, or the device cannot do it.
    """
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    for name, (text, defaults) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        for option, value in defaults.items():
            command.add_argument(
                f'--{option.replace("_", "-")}',
                type=positive_int,
                default=value,
                help=f'{HELP[option]} (default: %(default)s)',
            )
        command.add_argument(
            '--json', type=Path, metavar='OUT', help='also write all numbers'
        )
        if name == 'data':
            command.add_argument(
                '--data', help='videos to take (default: drawn ones)'
            )
            continue
        command.add_argument(
            '--config', default=str(CONFIG), help='whose model to take'
        )
        command.add_argument(
            '--device', choices=['cpu', 'cuda'], default='cpu'
        )
        command.add_argument(
            '--dtype',
            choices=['float32', 'bfloat16', 'float16'],
            default='float32',
            help="of ours, in the config's half-precision blocks (default: "
            'float32, everywhere); the baseline takes float32 on CPUs, else '
            'float16',
        )
        command.add_argument(
            '--compile',
            action='store_true',
            help='torch.compile our generator',
        )
        command.add_argument(
            '--channels-last',
            choices=['yes', 'no'],
            default='yes',
            help='no: our networks compute in NCHW, too',
        )
        command.add_argument(
            '--tf32', action='store_true', help='let GPUs round to TF32'
        )
    args = parser.parse_args(arguments)
    if args.command != 'data':
        check_device(args)
    if args.command == 'eval' and args.batch < 4:
        raise InputError(
            f'--batch {args.batch}: a distance takes 2 clips on either side'
        )
    if args.json:
        check_parent(args.json)
    return args


def check_device(args: argparse.Namespace) -> None:
    """Check that the device can do what is asked.

    Raises:
        InputError: It cannot.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: PyTorch finds no GPU here')
    if args.device == 'cpu' and args.dtype == 'float16':
        raise InputError(
            '--dtype float16: on CPUs the networks compute in float32 then; '
            'choose bfloat16, or --device cuda'
        )
    if args.device == 'cpu' and args.tf32:
        raise InputError('--tf32 is for --device cuda')


HELP = dict(
    resolution='pixels',
    batch='clips or videos',
    num_frames='frames of each',
    repeats='turns that are timed',
    chunk='frames rendered at a time',
)
COMMANDS: dict[str, tuple[str, dict]] = {
    'train': (
        'an iteration: generator, discriminator, R1, moving average',
        dict(resolution=128, batch=8, num_frames=3, repeats=3),
    ),
    'sample': (
        'rendering: by default 1 video of 128 frames, and 16 of 16',
        dict(resolution=256, batch=None, num_frames=None, repeats=8, chunk=16),
    ),
    'eval': (
        'FVD-random: rendering, features, statistics',
        dict(resolution=128, batch=16, num_frames=16, repeats=3),
    ),
    'options': (
        'an iteration with each option of losses and of the discriminator',
        dict(resolution=32, batch=8, num_frames=3, repeats=9),
    ),
    'data': (
        'reading clips from videos, zips and folders, on one core',
        dict(resolution=256, batch=16, num_frames=3, repeats=3),
    ),
    'memory': (
        'peaks of training, and of sampling longer and longer videos',
        dict(resolution=128, batch=8, num_frames=3),
    ),
    'profile': (
        'the operations that take the time of sampling and of training',
        dict(resolution=128, batch=4, num_frames=3, chunk=16),
    ),
    'roofline': (
        'what would bound the speed of two GPUs, from counted operations; '
        'needs none',
        dict(resolution=256, batch=8, num_frames=3, chunk=32),
    ),
    'scaling': (
        'iterations of other sizes and, on CPUs, of two processes',
        dict(resolution=64, batch=8, num_frames=3, repeats=2),
    ),
}


MEASURES = {
    'train': measure_training,
    'sample': measure_all_sampling,
    'eval': measure_evaluation,
    'scaling': measure_scaling,
}


def measure_and_show(args: argparse.Namespace) -> dict:
    """Measure what computes, print a table and return all numbers."""
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    keep_freed_memory()
    given = vars(args) | dict(channels_last=args.channels_last == 'yes')
    names = [field.name for field in fields(Options)]
    options = Options(**{key: given[key] for key in names if key in given})
    if args.command == 'memory':
        peaks = measure_memory(options)
        lines = [['', 'peak GiB']]
        lines += [[name, f'{x / 2**30:.3f}'] for name, x in peaks.items()]
        print(format_table(lines))
        return dict(memory=peaks)
    if args.command == 'options':
        seconds = measure_choices(options)
        print(format_table(choices_table(seconds)))
        return dict(options=seconds)
    if args.command == 'profile':
        shares = measure_profile(options)
        for name, operations in shares.items():
            lines = [[name, 'of the time']]
            lines += [[op, f'{share:.0%}'] for op, share in operations.items()]
            print(format_table(lines))
        return dict(profile=shares)
    if args.command == 'roofline':
        bounds = measure_roofline(options)
        print(format_table(roofline_table(bounds)))
        return dict(roofline=bounds)
    dtypes = dict.fromkeys(ways(args.device), baseline_dtype(options))
    dtypes[OURS] = args.dtype
    found = {
        dtype: convolution_peak(args.device, dtype)
        for dtype in sorted(set(dtypes.values()))
    }
    rows, differences = MEASURES[args.command](options)
    for dtype, flops in found.items():
        # The machine may be quieter now.
        found[dtype] = max(flops, convolution_peak(args.device, dtype))
    for dtype, flops in found.items():
        print(f'3x3 convolutions in {dtype}: {flops / 1e9:.4g} GFLOP/s')
    text, numbers = report(
        rows, {way: found[dtype] for way, dtype in dtypes.items()}
    )
    print(text)
    for name, value in differences.items():
        print(f'{name}: {value:.2g} from the baseline')
    return dict(convolution_peak=found, rows=numbers, differences=differences)


def main() -> None:
    """Measure, print and write."""
    args = parse()
    machine = about(getattr(args, 'device', 'cpu'))
    cpu = f'{machine["cpu"]}, {machine["threads"]} threads'
    print(f'{machine["date"]}, {machine["gpu"] or cpu}')
    print(f'torch {machine["torch"]}, mmcv {machine["mmcv"]}')
    if args.command == 'data':
        timings = reading.measure_reading(
            repeats=args.repeats,
            num_frames=args.num_frames,
            resolution=args.resolution,
            clips=args.batch,
            data=args.data,
        )
        print(format_table(reading.table(timings)))
        results = dict(rows=[timing._asdict() for timing in timings])
    else:
        results = measure_and_show(args)
    if args.json:
        with atomic_write(args.json) as temporary:
            text = json.dumps(machine | results, indent=2)
            temporary.write_text(f'{text}\n')


if __name__ == '__main__':
    run_tool(main)
