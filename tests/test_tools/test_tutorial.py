"""The notebook, run start to end in a real kernel."""

import ast
import copy
import os

import pytest
from real_process import ROOT

from stylegan_v_mm.zoo import zoo_models

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')

NOTEBOOK = ROOT / 'docs/tutorial.ipynb'
# What it computed, as text for `literal_eval`.
RESULTS = """
found_values = dict(
    checkpoint=gan.checkpoint,
    videos=list(videos.shape),
    alone_error=alone_error,
    slow_error=slow_error,
    loop_steps=steps.tolist(),
    written=[str(path) for path in written],
    latents=len(again),
    inverted=list(found.frames.shape),
    edit=edit_change.min().item(),
)
print(found_values)
"""


@pytest.fixture(scope='module')
def notebook():
    return nbformat.read(NOTEBOOK, 4)


def test_stored_outputs_are_there_and_whole(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == 'error' for output in outputs)
    pictures = [
        output
        for output in outputs
        if {'image/jpeg', 'image/gif'} & output.get('data', {}).keys()
    ]
    assert len(pictures) > 8
    assert NOTEBOOK.stat().st_size < 2e6


@pytest.mark.slow
def test_it_runs_on_a_fresh_clone(notebook, tmp_path):
    notebook = copy.deepcopy(notebook)
    parameters = f"""
model = 'rc_track_64'
out_dir = {str(tmp_path)!r}
inversion_steps = 1
"""
    (cell,) = [
        cell
        for cell in notebook.cells
        if 'parameters' in cell.metadata.get('tags', [])
    ]
    names = {line.split(' = ')[0] for line in parameters.split('\n') if line}
    assert names == {
        line.split(' = ')[0]
        for line in cell.source.split('\n')
        if not line.startswith('#')
    }
    cell.source = parameters
    notebook.cells.append(nbformat.v4.new_code_cell(RESULTS))
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name='python3',
        resources={'metadata': {'path': str(ROOT / 'docs')}},
    )
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    client.execute(env=environment)
    (output,) = notebook.cells[-1].outputs
    found = ast.literal_eval(output.text)
    assert found['checkpoint'] == zoo_models()['rc_track_64'].weights
    assert found['videos'] == [4, 24, 3, 64, 64]
    assert found['alone_error'] <= 5  # in bfloat16
    assert found['slow_error'] < 1e-5
    *steps, seam = found['loop_steps']
    assert 0 < seam <= max(steps)
    assert found['written'] == [str(tmp_path / '3.mp4')]
    assert found['latents'] == 4
    assert found['inverted'] == [16, 3, 64, 64]
    assert found['edit'] > 0
