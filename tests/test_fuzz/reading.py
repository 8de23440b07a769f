"""Having files read by another process, however that ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

FACTOR = float(os.environ.get('STYLEGAN_V_FUZZ', 1))
TESTS = Path(__file__).parents[1]
#: Bytes by which the memory in use may grow while a small file is read.
MOST_MEMORY = 400 * 2**20


class Reader:
    """Has files read in another process, which is started anew if it dies."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    def start(self):
        """Start the process."""
        self.log = (self.folder / 'log.txt').open('w+')
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name('reader.py')],
            cwd=self.folder,
            env={
                **os.environ,
                'HOME': str(self.folder),
                'OMP_NUM_THREADS': '1',
                'PYTHONPATH': os.pathsep.join([str(TESTS), str(TESTS.parent)]),
                'TMPDIR': str(self.folder),
                # torch hands it on from where it is imported.
                'TORCHINDUCTOR_CACHE_DIR': str(self.folder / 'inductor'),
                'XDG_CACHE_HOME': str(self.folder / 'cache'),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def stop(self):
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(60)
            self.process.stdout.close()
            self.log.close()
            self.process = None

    def read(self, kind, path):
        """Have a file read; return how it ended, see ``reader.py``."""
        if self.process is None:
            self.start()
        print(json.dumps([kind, str(path)]), file=self.process.stdin)
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            answer = json.loads(answer)
            if answer['bytes'] > MOST_MEMORY:
                answer['outcome'] = 'too large'
            return answer
        status = self.process.wait(60)
        self.log.seek(0)
        text = self.log.read()[-2000:]
        self.process = None
        return dict(outcome='died', about=f'status {status}: {text}', bytes=0)
