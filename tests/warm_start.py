"""Start scripts at once: a process that has imported all, and forks.

It reads jobs from its standard input, one JSON object a line: what
``real_process.start_script`` sends, answered by the child's number, or
``poll`` with such a number, answered by the exit status or null. A child is a
process of its own, in a session of its own; it ends as one that was started by
hand.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

import matplotlib.pyplot  # noqa: F401
import torchvision  # noqa: F401
from real_process import leave_configs_as_they_are

import stylegan_v_mm.engine
import stylegan_v_mm.evaluation
import stylegan_v_mm.inference
import stylegan_v_mm.models  # noqa: F401

leave_configs_as_they_are()


def become(job: dict) -> None:
    """Turn this child into the script."""
    os.setsid()
    # Not to outlive the tests: PR_SET_PDEATHSIG.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.chdir(job['cwd'])
    os.environ.clear()
    os.environ.update(job['env'])
    for number, path in enumerate((os.devnull, job['out'], job['err'])):
        mode = os.O_RDWR | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(path, mode), number)
    sys.argv = job['words']
    sys.path[0] = str(Path(sys.argv[0]).parent.resolve())
    status = 0
    try:
        exec(job['before'], {})
        runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    # What Python does at an exit, but for taking all modules down.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Answer until the standard input ends."""
    gc.freeze()  # spares the children copies of all that is imported
    print('ready', flush=True)
    while line := sys.stdin.readline():
        job = json.loads(line)
        if 'poll' in job:
            pid, status = os.waitpid(job['poll'], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                become(job)
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()
