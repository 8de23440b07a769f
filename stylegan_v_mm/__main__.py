"""Run a tool by its name, even if only the package is installed.

``python -m stylegan_v_mm generate rc_track_64 --out samples.mp4`` runs
``tools/generate.py``. Without a name, it lists the tools.
"""

import ast
import runpy
import sys
from pathlib import Path


def find_tools() -> dict[str, Path]:
    """Find the scripts under ``tools/``, by name."""
    package = Path(__file__).parent
    # The wheel has them in .mim, where OpenMMLab's mim looks for them.
    installed = package / '.mim'
    folder = (installed if installed.is_dir() else package.parent) / 'tools'
    scripts = sorted(folder.rglob('*.py'))
    return {path.stem: path for path in scripts if '__main__' in _read(path)}


def list_tools(tools: dict[str, Path]) -> None:
    """Print all tools, and what they do."""
    print('usage: python -m stylegan_v_mm TOOL ...\n')
    for tool, path in tools.items():
        about = ast.get_docstring(ast.parse(_read(path))) or ''
        print(f'{tool:20} {about.partition(chr(10))[0]}')


def main() -> None:
    """Run the tool that the command line names."""
    tools = find_tools()
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        list_tools(tools)
        return
    if name not in tools:
        # Not by run_tool, which takes seconds to import.
        known = ', '.join(tools)
        print(
            f'error: there is no tool {name!r}; there are {known}',
            file=sys.stderr,
        )
        sys.exit(2)
    script = tools[name]
    sys.argv[:2] = [str(script)]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name='__main__')


def _read(script: Path) -> str:
    return script.read_text('utf-8')


if __name__ == '__main__':
    main()
