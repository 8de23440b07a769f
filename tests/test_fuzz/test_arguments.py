"""Command lines: any value of any option ends in one line and status 2.

The first arguments name files that are not there, so that no run goes well:
what is wrong is said, whichever comes first.
"""

import ast
import math
import re

import pytest
from golden import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import FACTOR

TOOLS = {
    'edit.py': ['nowhere.py', 'nowhere.pth'],
    'generate.py': ['nowhere.py', 'nowhere.pth'],
    'invert.py': ['nowhere.py', 'nowhere.pth', 'nowhere.mp4'],
    'test.py': ['nowhere.py', 'nowhere.pth'],
    'train.py': ['nowhere.py'],
    'analysis_tools/check_dataset.py': ['nowhere'],
    'analysis_tools/compare_datasets.py': ['nowhere', 'elsewhere'],
    'analysis_tools/motion_report.py': ['nowhere.py', 'nowhere.pth'],
    'analysis_tools/plot_log.py': ['nowhere'],
    'dataset_converters/crop_time.py': ['nowhere', 'out'],
    'dataset_converters/donkey_tubs.py': ['nowhere', 'out'],
    'dataset_converters/reencode.py': ['nowhere', 'out'],
    'dataset_converters/split_video.py': ['nowhere', 'out'],
    'dataset_converters/videos_to_frames.py': ['nowhere', 'out'],
    'model_converters/convert_safetensors.py': ['nowhere', 'out.pth'],
    'model_converters/export_model.py': ['nowhere.py', 'nowhere.pth'],
    'model_converters/stylegan_v_pkl.py': ['nowhere', 'out.pth'],
}
VALUES = st.sampled_from(
    [
        '0', '-1', '1', '2.5', '1e999', '-inf', 'nan', '1' * 5000, '', ' ',
        'x', '0-', '-', '=', 'a=b', 'a.b=[', 'a=1,2', '../x', '/', '\n',
        '\x1b[2J', 'ä', '\udcff', '%s', '{}', 'None', '0x10', '1_000',
    ]
) | st.text(st.characters(exclude_characters='\0'), max_size=5)  # fmt: skip


def options_of(tool):
    """Names of options, from the source of a script."""
    source = (ROOT / 'tools' / tool).read_text()
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and getattr(node.func, 'attr', '') == 'add_argument'
    ]
    names = [
        argument.value
        for call in calls
        for argument in call.args
        if isinstance(argument, ast.Constant)
    ]
    return [name for name in names if name.startswith('--')]


@pytest.mark.slow
@pytest.mark.parametrize('tool', TOOLS)
def test_any_value_of_an_option(tool, run_script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str((ROOT / 'tools' / tool).parent))
    names = options_of(tool) or ['--no-such-option']
    count = math.ceil(12 * FACTOR)

    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        st.dictionaries(st.sampled_from(names), VALUES, min_size=1, max_size=3)
    )
    def run(options):
        args = [f'{name}={value}' for name, value in options.items()]
        path = ROOT / 'tools' / tool
        result = run_script(path, *TOOLS[tool], *args)
        assert result.returncode == 2, result
        assert 'Traceback' not in result.stderr
        # Of argparse, a usage comes first.
        last = re.split(r'(?m)^usage: ', result.stderr)[-1]
        assert len(re.findall(r'(?m)^(?:\S+\.py: )?error: ', last)) == 1, last

    run()
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]
