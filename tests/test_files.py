"""Complete files and locks, as processes and full disks meet them."""

import multiprocessing
import os
import resource
import signal
import threading
import time

import pytest
from real_process import held_elsewhere

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import (
    atomic_write,
    check_writable,
    file_lock,
    remove_unfinished,
)


def in_a_process(task):
    """Do something in a forked process; return its status, 0 if it works."""
    process = os.fork()
    if process == 0:
        try:
            task()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / 'a/b/file.txt'
    with atomic_write(path) as temporary:
        temporary.write_text('half')
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith('.')
        temporary.write_text('whole')
    assert path.read_text() == 'whole'
    assert os.listdir(path.parent) == ['file.txt']
    # Others may read it, as they may any file.
    (tmp_path / 'other').touch()
    assert path.stat().st_mode == (tmp_path / 'other').stat().st_mode


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with atomic_write(tmp_path / 'folder') as temporary:
        (temporary / 'inner').mkdir(parents=True)
        assert not (tmp_path / 'folder').exists()
    assert (tmp_path / 'folder/inner').is_dir()
    assert os.listdir(tmp_path) == ['folder']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_all_as_it_was(tmp_path, error):
    path = tmp_path / 'file.txt'
    path.write_text('before')

    def fail(temporary):
        (temporary / 'inner').mkdir(parents=True)
        raise error

    for name in ('file.txt', 'folder'):
        with pytest.raises(error), atomic_write(tmp_path / name) as temporary:
            fail(temporary)
    assert path.read_text() == 'before'
    assert os.listdir(tmp_path) == ['file.txt']


def test_a_full_disk_is_one_error_with_the_path(tmp_path):
    path = tmp_path / 'file.txt'
    path.write_text('before')

    def write():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        message = f'^{path} cannot be written: File too large$'
        with (
            pytest.raises(InputError, match=message),
            atomic_write(path) as temporary,
        ):
            temporary.write_bytes(bytes(101))

    assert in_a_process(write) == 0
    assert path.read_text() == 'before'
    assert os.listdir(tmp_path) == ['file.txt']


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder/full').mkdir(parents=True)
    for name in ('file/a', 'folder'):
        with (
            pytest.raises(InputError, match=f'^{tmp_path / name} cannot be'),
            atomic_write(tmp_path / name) as temporary,
        ):
            temporary.mkdir()
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']
    with pytest.raises(InputError, match='file/a is not writable: Not a dir'):
        check_writable(tmp_path / 'file/a')
    check_writable(tmp_path / 'new/folder')
    assert os.listdir(tmp_path / 'new/folder') == []


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / (251 * 'x' + '.txt')
    with atomic_write(path) as temporary:
        temporary.touch()
    assert path.exists()


def test_writers_of_one_file_do_not_meet(tmp_path):
    """Not even threads of one process."""
    path, meeting = tmp_path / 'file.txt', threading.Barrier(8)

    def write(text):
        with atomic_write(path) as temporary:
            temporary.write_text(text)
            meeting.wait(30)

    texts = [1000 * str(i) for i in range(8)]
    threads = [threading.Thread(target=write, args=(x,)) for x in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert os.listdir(tmp_path) == ['file.txt']


def test_what_a_killed_process_left_can_be_removed(tmp_path):
    def write():
        with (
            atomic_write(tmp_path / 'a') as file,
            atomic_write(tmp_path / 'b') as folder,
        ):
            file.touch()
            (folder / 'inner').mkdir(parents=True)
            os.kill(os.getpid(), signal.SIGKILL)

    (tmp_path / '.hidden').touch()
    (tmp_path / 'my.tmp').touch()
    assert in_a_process(write) == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 4
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['.hidden', 'my.tmp']


def test_one_process_at_a_time_holds_a_lock(tmp_path):
    path = tmp_path / 'new/lock'
    with held_elsewhere(path) as number:
        message = f'^{path.parent} is in use by process {number} on '
        with pytest.raises(InputError, match=message), file_lock(path):
            pytest.fail('two hold the lock')
    with file_lock(path):
        assert path.read_text().startswith(f'process {os.getpid()} on ')
    assert not path.exists()


def test_waiting_for_a_lock(tmp_path):
    path, order = tmp_path / 'lock', []
    with held_elsewhere(path):
        timer = threading.Timer(0.3, order.append, ['release'])

        def wait():
            with file_lock(path, wait=True):
                order.append('held')

        thread = threading.Thread(target=wait)
        thread.start()
        timer.start()
        timer.join()
        assert order == ['release']
    thread.join(60)
    assert order == ['release', 'held']


def test_a_lock_of_others_is_not_removed(tmp_path):
    """Where the block has removed its own, and they have made a new one."""
    path = tmp_path / 'lock'
    with file_lock(path):
        path.unlink()
        path.write_text('theirs')
    assert path.read_text() == 'theirs'
    with file_lock(path):
        path.unlink()
    assert os.listdir(tmp_path) == []


def test_many_processes_take_turns(tmp_path):
    """Though each removes the lock file that others may have opened."""

    def count():
        number = tmp_path / 'number'
        for _ in range(25):
            with file_lock(tmp_path / 'lock', wait=True):
                value = int(number.read_text())
                time.sleep(0.0005)
                number.write_text(str(value + 1))

    (tmp_path / 'number').write_text('0')
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=count) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / 'number').read_text() == '100'


def test_a_lock_goes_with_its_process(tmp_path):
    """Also where a child of it lives on."""
    path = tmp_path / 'lock'
    reader, writer = os.pipe()

    def die():
        with file_lock(path):
            if os.fork() == 0:
                os.close(writer)
                os.read(reader, 1)  # ends when the test closes the pipe
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_process(die) == -signal.SIGKILL
    assert path.read_text() != ''
    with file_lock(path):
        pass
    os.close(writer)


def test_without_a_place_for_the_lock_there_is_none(tmp_path):
    (tmp_path / 'file').touch()
    with file_lock(tmp_path / 'file/lock'):
        assert os.listdir(tmp_path) == ['file']
