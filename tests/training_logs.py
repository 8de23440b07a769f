"""Logs of training runs, with numbers chosen by a test."""

import json


def training_line(step, loss, kimg=None, **more):
    kimg = step / 10 if kimg is None else kimg
    return dict(loss_g=loss, kimg=kimg, iter=step, step=step, **more)


def metric_line(step, value, name='FVD16'):
    return {name: value, 'data_time': 0.1, 'time': 0.5, 'step': step}


def write_log(work_dir, date, lines, end=''):
    folder = work_dir / date / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text + end)


def write_results(work_dir, *lines):
    """Write results as tools/test.py does."""
    more = dict(checkpoint='x.pth', config='c.py', num_runs=1, date='today')
    text = ''.join(json.dumps({**more, **line}) + '\n' for line in lines)
    (work_dir / 'metrics.jsonl').write_text(text)


def write_two_runs(tmp_path):
    signs = dict(signs_real=0.5, signs_fake=-0.5)
    a, b = tmp_path / 'a', tmp_path / 'b'
    lines = [training_line(i, i, **signs, r1_penalty=i) for i in (10, 20, 30)]
    write_log(a, '1', [*lines, metric_line(30, 5, 'FID')])
    write_log(b, '1', [training_line(i, -i, augment_p=0.1) for i in (10, 20)])
    return a, b


def write_good_run(work_dir, steps=(10, 20, 30, 40, 50)):
    lines = [
        training_line(i, i / 2, loss_d=-i / 2, r1_penalty=i, frames_per_sec=9)
        for i in steps
    ]
    write_log(work_dir, '1', [*lines, metric_line(10, 700)])
    return work_dir
