r"""Write a generator as files that run without this package.

    python tools/model_converters/export_model.py CONFIG CHECKPOINT \
        --out FOLDER --format torch onnx
    python tools/model_converters/export_model.py WORK_DIR --out FOLDER

FOLDER gets mapping, motion and synthesis as programs of torch.export (.pt2) or
ONNX graphs (.onnx), and model.json, which says what they take. Each is
compared with the model before the folder appears. See docs/export.md.
"""

from pathlib import Path

from stylegan_v_mm.cli import model_parser, run_tool
from stylegan_v_mm.inference import find_model, load_sampler
from stylegan_v_mm.inference.export import (
    SUFFIXES,
    check_export,
    export_generator,
)


def main() -> None:
    """Parse the command line and export."""
    parser = model_parser(__doc__)
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER')
    parser.add_argument(
        '--format',
        nargs='+',
        choices=SUFFIXES,
        default=['torch'],
        help='one or both; onnx needs onnx, onnxscript and onnxruntime',
    )
    args = parser.parse_args()
    check_export(args.out, args.format)
    sampler = load_sampler(*find_model(args.model, args.checkpoint), 'cpu')
    files = export_generator(sampler, args.out, args.format)
    print(f'wrote {args.out}')
    print('file            MB       largest difference from the model')
    for path, difference in files:
        size = path.stat().st_size / 1e6
        print(f'{path.name:14}  {size:<7.2f}  {difference:.1e}')


if __name__ == '__main__':
    run_tool(main)
