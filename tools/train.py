"""Train a video GAN.

python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]]
"""

import argparse

from mmengine.config import DictAction

from stylegan_v_mm.config import load_runner_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.tool import run_tool


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description='Train a video GAN')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='for checkpoints, logs and previews'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from the newest checkpoint of the work dir, or from this',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, e.g. resolution=128 batch_size=16',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none'
    )
    # torchrun and older launchers pass it; the environment has it as well.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()

    config = load_runner_config(
        args.config, args.cfg_options, args.launcher, args.work_dir
    )
    if args.resume:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    VideoGANRunner.from_cfg(config).train()


if __name__ == '__main__':
    run_tool(main)
