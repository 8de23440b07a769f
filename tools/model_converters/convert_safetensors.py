r"""Convert a checkpoint to .safetensors, or back.

    python tools/model_converters/convert_safetensors.py IN.pth OUT.safetensors
    python tools/model_converters/convert_safetensors.py IN.safetensors OUT.pth

A .safetensors file holds the weights alone, without what --resume needs. The
tools take it wherever they take a .pth. A sixth of a checkpoint's size is
enough to generate videos, to measure them and to start other runs:

    python tools/model_converters/convert_safetensors.py IN.pth \
        OUT.safetensors --no-generator --half
"""

import argparse
from pathlib import Path

from stylegan_v_mm.checkpoints.loading import (
    AVERAGE,
    load_checkpoint,
    plain_names,
)
from stylegan_v_mm.checkpoints.saving import save_checkpoint
from stylegan_v_mm.checkpoints.transfer import learned_weights
from stylegan_v_mm.cli import run_tool
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import sha256_of


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', metavar='IN')
    parser.add_argument('out', type=Path, metavar='OUT')
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument(
        '--ema-only',
        action='store_true',
        help='the average generator alone: a third of the size, enough to '
        'generate videos and to measure them',
    )
    parts.add_argument(
        '--no-generator',
        action='store_true',
        help='all but the generator that training steps: its average and the '
        'discriminator are enough for --transfer-from, too',
    )
    parser.add_argument(
        '--half',
        action='store_true',
        help='networks in float16, but for the motion: about half the size, '
        'and videos that differ by a grey level here and there',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace OUT')
    args = parser.parse_args()
    if args.out.suffix not in ('.pth', '.safetensors'):
        raise InputError(f'{args.out} must end in .safetensors or .pth')
    if args.out.exists() and not args.overwrite:
        raise InputError(f'{args.out} exists: --overwrite replaces it')
    weights = plain_names(load_checkpoint(args.source)['state_dict'])
    if args.ema_only:
        weights = {
            name: value
            for name, value in weights.items()
            if name.startswith(AVERAGE)
        }
    if args.no_generator:
        weights = {
            name: value
            for name, value in weights.items()
            if not name.startswith('generator.')
        }
    if args.half:
        # Motion's phases grow with time, and errors of its weights with them.
        halves = {
            name: value.half()
            for name, value in learned_weights(weights).items()
            if '.motion_encoder.' not in name
        }
        for name, value in halves.items():
            if not value.isfinite().all():
                raise InputError(
                    f'{args.source}: {name} has values beyond 65504, which '
                    'float16 cannot hold: leave out --half'
                )
        weights |= halves
    if not weights:
        raise InputError(
            f'{args.source} is not a checkpoint of this library: it holds no '
            + ('average generator' if args.ema_only else 'weights')
        )
    save_checkpoint({'state_dict': weights}, args.out)
    print(
        f'wrote {args.out}: {len(weights)} tensors, '
        f'sha256 {sha256_of(args.out)}'
    )


if __name__ == '__main__':
    run_tool(main)
