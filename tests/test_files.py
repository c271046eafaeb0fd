"""Files are written completely or not at all."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from reptile_helpers.files import write_atomically


def test_a_new_and_an_existing_file(tmp_path):
    for content in (b"first", b"second\r\n\x00", b""):
        write_atomically(str(tmp_path / "Datei ✍.bin"), content)
        assert (tmp_path / "Datei ✍.bin").read_bytes() == content
        assert os.listdir(tmp_path) == ["Datei ✍.bin"]


def fail(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_leaves_the_previous_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "results.json"
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left.*: results.json cannot be written; there is no previous file"):
        write_atomically(path, b"new")
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="results.json cannot be written; the previous file is unchanged") as caught:
        write_atomically(path, b"new")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["results.json"]


def test_an_interrupt_leaves_the_previous_file_and_nothing_else(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    path = tmp_path / "results.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["results.json"]


def test_the_kind_of_error_is_kept(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot be written; there is no previous file"):
        write_atomically(tmp_path / "gone" / "results.json", b"")


def test_everything_is_on_the_disk_before_the_file_gets_its_name(tmp_path, monkeypatch):
    """Otherwise a power cut after the renaming could leave an empty file."""
    events, path = [], tmp_path / "results.json"
    fsync, replace = os.fsync, os.replace

    def watch_fsync(descriptor):
        events.append(("fsync", os.fstat(descriptor).st_size, path.exists()))
        fsync(descriptor)

    def watch_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)  # a different disk would mean copying
        events.append(("replace", os.path.getsize(source), path.exists()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", watch_replace)
    write_atomically(path, b"12345")
    assert events == [("fsync", 5, False), ("replace", 5, False)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_killed_process_leaves_the_previous_file(tmp_path, step):
    path = tmp_path / "results.json"
    path.write_bytes(b"old")
    program = f"""
import os, signal
from reptile_helpers.files import write_atomically
os.{step} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
write_atomically({str(path)!r}, b"new")
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert path.read_bytes() == b"old"
    write_atomically(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_two_writers_do_not_mix(tmp_path):
    path, contents, seen = tmp_path / "results.json", [b"a" * 300_000, b"b" * 300_000], set()
    write_atomically(path, contents[0])
    threads = [
        threading.Thread(target=lambda content=content: [write_atomically(path, content) for _ in range(10)])
        for content in contents
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add(path.read_bytes())
    for thread in threads:
        thread.join()
    assert seen <= set(contents) and os.listdir(tmp_path) == ["results.json"]
