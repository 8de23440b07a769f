"""A video of a trained model, then the main job on data made here, on a CPU.

    python tools/demo.py
    python tools/demo.py --detector i3d

The first takes seconds. The second takes minutes: train, evaluate, sample. By
default it measures with a random detector, which needs no file and compares
with nothing but itself (FVD-random); i3d is the real one (FVD16), which
tools/get_detectors.py gets. Everything lands in work_dirs/demo/, which is
emptied first.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stylegan_v_mm.cli import positive_int, run_tool
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.evaluation.detectors.files import detector_file

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/stylegan_v/demo_moving_shapes.py'
WORK_DIR = 'work_dirs/demo'


def run(*command: str) -> None:
    """Show a command as a user would type it, and run it."""
    print(f'\n$ python {shlex.join(command)}', flush=True)
    subprocess.run([sys.executable, *command], check=True)


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(
        description='Train, evaluate and sample on data made here'
    )
    parser.add_argument(
        '--max-iters',
        type=positive_int,
        help='fewer, to see that all works',
    )
    parser.add_argument(
        '--detector', choices=['random', 'i3d'], default='random'
    )
    args = parser.parse_args()
    os.chdir(ROOT)
    options: dict[str, Any] = {'work_dir': WORK_DIR}
    if args.max_iters:
        options['max_iters'] = args.max_iters
    if args.detector == 'i3d':
        detector_file('i3d')  # Whether it is there shows at once.
        options['detector.type'] = 'I3D'
    shutil.rmtree(WORK_DIR, ignore_errors=True)
    driving = f'{WORK_DIR}/rc_track_64.mp4'
    run(
        'tools/generate.py',
        'rc_track_64',
        '--num-videos=16',
        '--num-frames=64',
        '--grid',
        f'--out={driving}',
    )
    print(f'Videos of the model that comes with the package: {driving}')
    config = load_config(CONFIG, options)
    if not Path(config.data_root).exists():
        run(
            'tools/dataset_converters/moving_shapes.py',
            config.data_root,
            '--num-videos=400',
            f'--resolution={config.resolution}',
        )

    print(f'\n$ python tools/train.py {CONFIG} --work-dir {WORK_DIR}')
    runner = VideoGANRunner.from_cfg(config)
    before = runner.test()
    start = time.monotonic()
    runner.train()
    minutes = (time.monotonic() - start) / 60

    checkpoint = f'{WORK_DIR}/iter_{config.max_iters}.pth'
    print(f'\n$ python tools/test.py {CONFIG} {checkpoint}')
    after = runner.test()
    run(
        'tools/generate.py',
        CONFIG,
        checkpoint,
        '--num-videos=16',
        '--num-frames=64',
        '--grid',
        f'--out={WORK_DIR}/samples.mp4',
    )

    print(f'\nTrained {config.max_iters} iterations in {minutes:.1f} minutes.')
    distance = 'FVD16' if args.detector == 'i3d' else 'FVD-random'
    for name in (distance, 'FrameDiff8'):
        print(
            f'{name} before training: {before[name]:.4g}, after: '
            f'{after[name]:.4g}'
        )
    print(f'videos:     {WORK_DIR}/samples.mp4, {driving}')
    print(f'picture:    {WORK_DIR}/preview.png')
    print(f'checkpoint: {checkpoint}')
    if after[distance] >= before[distance]:
        print('The distance did not fall: the training went wrong.')
        return 1
    return 0


if __name__ == '__main__':
    run_tool(main)
