"""Files are written completely or not at all, and data are kept where the user expects them."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reptile_helpers import files
from reptile_helpers.files import find_data_root, write_atomically


@pytest.mark.foreign_names
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
from reptile_helpers import files
from reptile_helpers.files import find_data_root, write_atomically
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


# --- the data folder


@pytest.fixture(autouse=True)
def without_the_variable(monkeypatch):
    monkeypatch.delenv("REPTILE_DATA", raising=False)


def read_only(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_root_that_does_not_exist(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="data folder is .*nowhere, which does not exist; create it"):
        find_data_root(tmp_path / "nowhere")
    monkeypatch.setenv("REPTILE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="REPTILE_DATA is .*nowhere, which does not exist; create it"):
        find_data_root()
    assert not (tmp_path / "nowhere").exists()


def test_root_that_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="data, which is a file"):
        find_data_root(str(tmp_path / "data"))
    monkeypatch.setenv("REPTILE_DATA", str(tmp_path / "data"))
    with pytest.raises(NotADirectoryError, match="REPTILE_DATA is .*data, which is a file"):
        find_data_root()
    monkeypatch.delenv("REPTILE_DATA")
    place_package(monkeypatch, tmp_path)
    with pytest.raises(NotADirectoryError, match="data, which is a file"):
        find_data_root()


@pytest.mark.parametrize("root", [3, True, b"data", ["data"]])
def test_root_that_is_not_a_path(root):
    with pytest.raises(ValueError, match="it must be the path of a folder, or None"):
        find_data_root(root)


def place_package(monkeypatch, folder):
    """Act as if the package were in `folder`, and used from there."""
    monkeypatch.setattr(files, "__file__", str(folder / "reptile_helpers" / "files.py"))
    monkeypatch.chdir(folder)


def make_repository(folder):
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "pyproject.toml", folder)
    return folder


def test_default_root_is_data_in_the_repository(tmp_path, monkeypatch):
    place_package(monkeypatch, make_repository(tmp_path / "learn reptile"))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert find_data_root() == tmp_path / "learn reptile" / "data"
        assert (tmp_path / "learn reptile" / "data").is_dir()


@pytest.mark.parametrize("foreign", [None, b"", b'[project]\nname = "\xff something"\n'])
def test_default_root_of_an_installed_package_is_data_here(tmp_path, monkeypatch, foreign):
    """Also where somebody else's package has left its pyproject.toml in site-packages."""
    installed, here = tmp_path / "lib" / "site-packages", tmp_path / "here"
    installed.mkdir(parents=True), here.mkdir()
    if foreign is not None:
        (installed / "pyproject.toml").write_bytes(foreign)
        (here / "pyproject.toml").write_bytes(foreign)
    place_package(monkeypatch, installed)
    monkeypatch.chdir(here)
    assert find_data_root() == here / "data" and (here / "data").is_dir()
    assert not (installed / "data").exists()


def test_default_root_of_an_installed_package_in_a_notebook_of_the_repository(tmp_path, monkeypatch):
    place_package(monkeypatch, tmp_path)
    make_repository(tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository" / "notebooks")
    assert find_data_root() == tmp_path / "repository" / "data"


def test_argument_comes_before_the_variable_and_the_variable_before_the_default(tmp_path, monkeypatch):
    place_package(monkeypatch, tmp_path)
    for name in ("argument", "variable"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("REPTILE_DATA", str(tmp_path / "variable"))
    assert find_data_root(tmp_path / "argument") == tmp_path / "argument"
    assert find_data_root(None) == tmp_path / "variable"
    assert not (tmp_path / "data").exists()
    monkeypatch.setenv("REPTILE_DATA", "")
    assert find_data_root(None) == tmp_path / "data"


def test_root_in_the_home_folder_and_relative_to_this_one(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path)), monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_data_root("~/mine") == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    assert find_data_root("mine") == tmp_path / "mine"


def test_default_root_that_cannot_be_created(tmp_path, monkeypatch):
    place_package(monkeypatch, tmp_path)
    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(PermissionError, match="data cannot be created .Read-only file system.; set REPTILE_DATA"):
        find_data_root()
