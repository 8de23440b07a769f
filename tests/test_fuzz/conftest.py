"""Fuzzing: a process that reads, files to start from, and totals.

STYLEGAN_V_FUZZ=10 in the environment takes ten times as many inputs.
"""

from collections import Counter

import pytest
import seed_files
from reading import Reader


@pytest.fixture(scope='session')
def sandbox(tmp_path_factory):
    """The only folder that readers may write into."""
    return tmp_path_factory.mktemp('sandbox')


@pytest.fixture(scope='session')
def reader(sandbox):
    reader = Reader(sandbox)
    yield reader
    reader.stop()


@pytest.fixture(scope='session')
def seeds(tmp_path_factory):
    """Whole files by kind, see ``seed_files``."""
    return seed_files.make(tmp_path_factory.mktemp('seeds'))


@pytest.fixture
def check(reader, sandbox, tmp_path, record_property):
    """Have files read; fail if one ends otherwise than it may."""
    counts, failures = Counter(), []

    def check(kind, name, content, expected=('read', 'refused')):
        """Read a file of a kind; return the message."""
        path = sandbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        answer = reader.read(kind, path)
        path.unlink()
        counts[kind, answer['outcome']] += 1
        if answer['outcome'] not in expected:
            kept = tmp_path / f'{len(failures)}_{name}'
            kept.write_bytes(content)
            failures.append(f'{kind} {kept}: {answer}')
        return answer['about']

    yield check
    for (kind, outcome), count in counts.items():
        record_property('fuzz', [kind, outcome, count])
    assert not failures, '\n'.join(failures)


def pytest_terminal_summary(terminalreporter):
    """Print how many inputs of each kind were read or refused."""
    totals = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, 'user_properties', ()):
                if name == 'fuzz' and report.when == 'teardown':
                    kind, outcome, count = value
                    totals[kind, outcome] += count
    if not totals:
        return
    terminalreporter.section('fuzzing: inputs by kind')
    for kind in sorted({kind for kind, _ in totals}):
        outcomes = {o: n for (k, o), n in totals.items() if k == kind}
        text = ', '.join(f'{n} {o}' for o, n in sorted(outcomes.items()))
        total = sum(outcomes.values())
        terminalreporter.write_line(f'{kind:20} {total:6}: {text}')
    total = sum(totals.values())
    terminalreporter.write_line(f'{"all":20} {total:6}')
