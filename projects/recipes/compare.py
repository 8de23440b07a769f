"""Compare recipes of training: same data, same time, several seeds.

    python projects/recipes/compare.py work_dirs/recipes

Trains all recipes, measures them and writes a table and a picture into the
folder. The command can be interrupted and given again. Nothing else should run
meanwhile.
"""

import sys
from pathlib import Path

# The hook is imported by this name, here and in the runs.
sys.path.append(str(Path(__file__).parents[2]))

from projects.recipes.recipes import RECIPES
from projects.recipes.recipes.comparison import Comparison, Run
from projects.recipes.recipes.report import draw, table
from stylegan_v_mm.cli import (
    positive_float,
    positive_int,
    run_tool,
    seed_number,
    tool_parser,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write

STEPS = ('train', 'measure', 'report')


def main() -> None:
    """Parse the command line and do the steps."""
    parser = tool_parser(__doc__)
    parser.add_argument('out', type=Path, help='folder of all runs')
    parser.add_argument(
        '--config',
        default='configs/stylegan_v/rc_track_32.py',
        help='the published recipe, which the others change',
    )
    parser.add_argument(
        '--recipes', nargs='+', choices=RECIPES, default=list(RECIPES)
    )
    parser.add_argument(
        '--seeds', nargs='+', type=seed_number, default=[0, 1, 2]
    )
    parser.add_argument(
        '--minutes',
        type=positive_float,
        default=20,
        help='training time of a run',
    )
    parser.add_argument(
        '--turns',
        type=positive_int,
        default=4,
        help='into which a run is divided; each end is measured',
    )
    parser.add_argument(
        '--jobs', type=positive_int, default=2, help='runs at a time'
    )
    parser.add_argument(
        '--num-videos',
        type=positive_int,
        default=512,
        help='clips of a measurement',
    )
    parser.add_argument(
        '--steps', nargs='+', choices=STEPS, default=STEPS, help='what to do'
    )
    args = parser.parse_args()
    if not Path(args.config).is_file():
        raise InputError(f'--config {args.config}: there is no such file')
    comparison = Comparison(
        config=args.config,
        runs=[
            Run(name, seed, args.out)
            for seed in args.seeds
            for name in args.recipes
        ],
        num_turns=args.turns,
        seconds=60 * args.minutes / args.turns,
        jobs=args.jobs,
        num_videos=args.num_videos,
    )
    if 'train' in args.steps:
        comparison.train()
    if 'measure' in args.steps:
        comparison.measure()
    if 'report' in args.steps:
        text = table(comparison)
        print(text)
        with atomic_write(args.out / 'table.txt') as temporary:
            temporary.write_text(text + '\n')
        draw(comparison, args.out / 'recipes.png')
        print(f'wrote {args.out}/table.txt and recipes.png')


if __name__ == '__main__':
    run_tool(main)
