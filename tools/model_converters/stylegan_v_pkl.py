"""Convert a published snapshot to a checkpoint and its config.

    python tools/model_converters/stylegan_v_pkl.py IN.pkl OUT.pth

IN.pkl is a training snapshot of StyleGAN-V, of its MoCoGAN+SG2 baseline, or
of StyleGAN2-ADA (PyTorch); it is read without executing anything in it. OUT.py
beside OUT.pth is the config. Of a model of images, OUT_video.py is the config
of a model of videos that starts from it, by --transfer-from.
"""

from pathlib import Path

from stylegan_v_mm.checkpoints.snapshot_conversion import convert_snapshot
from stylegan_v_mm.cli import run_tool, tool_parser
from stylegan_v_mm.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Convert, and print what was found."""
    parser = tool_parser(__doc__)
    parser.add_argument('source', type=Path, metavar='IN.pkl')
    parser.add_argument('out', type=Path, metavar='OUT.pth')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace the files that exist'
    )
    args = parser.parse_args()
    if args.out.suffix != '.pth':
        raise InputError(f'{args.out} must end in .pth')
    rows = convert_snapshot(args.source, args.out, ROOT, args.overwrite)
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f'{name:{width}}  {value}')


if __name__ == '__main__':
    run_tool(main)
