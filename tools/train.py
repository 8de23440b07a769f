"""Train a video GAN.

python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]]
    [--transfer-from CHECKPOINT]
"""

import argparse


def parse() -> argparse.Namespace:
    """Read the command line."""
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
        '--transfer-from',
        metavar='CHECKPOINT',
        help='start from the weights of a run on other data, or of a trained '
        'model such as rc_track_64, as far as they fit; with --resume, only '
        'if the work dir holds no checkpoint',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='settings to override, e.g. resolution=128 batch_size=16',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none'
    )
    # torchrun and older launchers pass it; the environment has it as well.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Train."""
    from stylegan_v_mm.cli import import_mmengine, read_options

    import_mmengine()
    from stylegan_v_mm.config import load_config
    from stylegan_v_mm.engine import VideoGANRunner
    from stylegan_v_mm.errors import InputError

    options = {**read_options(args.cfg_options), 'launcher': args.launcher}
    if args.work_dir:
        options['work_dir'] = args.work_dir
    config = load_config(args.config, options)
    if args.transfer_from:
        if args.resume not in (None, 'auto'):
            raise InputError(
                f'--transfer-from {args.transfer_from} starts anew, --resume '
                f'{args.resume} goes on: give one of them'
            )
        config.resume, config.load_from = False, args.transfer_from
    if args.resume not in (None, 'auto'):
        config.resume, config.load_from = True, args.resume
    runner = VideoGANRunner.from_cfg(config)
    if args.resume == 'auto':
        runner.resume_if_begun()
    runner.train()


if __name__ == '__main__':
    # What follows takes seconds to import: help and mistakes come before.
    arguments = parse()
    from stylegan_v_mm.cli import run_tool

    run_tool(lambda: main(arguments))
