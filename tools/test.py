"""Measure a trained generator with the metrics of its config.

python tools/test.py CONFIG CHECKPOINT
"""

import argparse
import json
from pathlib import Path

from mmengine.config import DictAction
from mmengine.dist import is_main_process

from stylegan_v_mm.config import load_runner_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.tool import run_tool


def main() -> None:
    """Parse the command line, measure, and print the metrics."""
    parser = argparse.ArgumentParser(description='Measure a trained generator')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='file of a training run')
    parser.add_argument('--work-dir', help='for logs')
    parser.add_argument('--out', help='a .json file for the metrics')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, e.g. num_test_videos=256',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none'
    )
    # torchrun and older launchers pass it; the environment has it as well.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()

    out = Path(args.out) if args.out else None
    if out is not None and not out.parent.is_dir():
        raise InputError(f'--out {out}: there is no folder {out.parent}')
    config = load_runner_config(
        args.config, args.cfg_options, args.launcher, args.work_dir
    )
    config.load_from = args.checkpoint
    metrics = VideoGANRunner.from_cfg(config).test()
    if is_main_process():
        for name, value in metrics.items():
            print(f'{name}: {value:.4f}')
        if out is not None:
            out.write_text(json.dumps(metrics) + '\n')


if __name__ == '__main__':
    run_tool(main)
