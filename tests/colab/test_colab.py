"""Every notebook alone in an empty folder, as on Colab, and without Omniglot and a network: nox -s colab, on Linux.

Colab itself is only a name here: whether its pages show what the notebooks send, no test tells.
"""

import os
import runpy
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = runpy.run_path(str(ROOT / "tests" / "tools" / "address.py"))
_, TAG = ADDRESS["read"]()
WHERE = "import reptile_helpers\nprint(reptile_helpers.__file__)"
COLAB = """\
import sys
from types import SimpleNamespace

output = SimpleNamespace(enable_custom_widget_manager=lambda: None)  # anywidget calls it
sys.modules["google.colab"] = SimpleNamespace(output=output)
"""


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """A repository of this working tree, uncommitted changes and all, with the tag that the notebooks ask for."""
    folder = tmp_path_factory.mktemp("repository")
    settings = {"GIT_DIR": str(folder / ".git"), "GIT_WORK_TREE": str(ROOT), "GIT_CONFIG_GLOBAL": os.devnull}
    commit = "-c user.name=x -c user.email=x commit --quiet --message=x"
    for command in ("init --quiet", "add .", commit, f"tag {TAG}"):
        subprocess.run(["git", *command.split()], cwd=ROOT, env=os.environ | settings, check=True)
    return folder.as_uri()


@contextmanager
def memory_of_children():
    """A list whose last entry is the most memory, in MB, that all child processes have had at one time."""
    peaks, done = [0], threading.Event()

    def watch():
        while not done.wait(2):  # a look takes 50 ms of each process
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:  # what processes share is divided between them
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    pass  # it has just ended
            peaks.append(max(peaks[-1], total // 2**20))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


NAMES = sorted(path.name for path in ROOT.glob("notebooks/*.ipynb"))
NAMES.sort(key=lambda name: name[:2] != "06")  # the longest first, so that no worker has to wait for it at the end


@pytest.mark.parametrize("name", NAMES)
def test_alone_on_colab(name, address, tmp_path, monkeypatch, record_property):
    alone, content, no_data, startup = (
        tmp_path / part for part in ("alone", "content", "no-data", "ipython/profile_default/startup")
    )
    for folder in (alone, content, no_data, startup):
        folder.mkdir(parents=True)
    (startup / "colab.py").write_text(COLAB, encoding="utf-8")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("REPTILE_DATA", str(no_data))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("PYTHONPATH", raising=False)  # pytest-xdist puts the working tree on it
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")

    shutil.copy(ROOT / "notebooks" / name, alone)
    ADDRESS["write_notebook"](alone / name, address, TAG)
    notebook = nbformat.read(alone / name, as_version=4)
    (first,) = [cell for cell in notebook.cells if '"/content"' in cell.source]
    first.source = first.source.replace('"/content"', repr(str(content)))
    source = "\n".join(cell.source for cell in notebook.cells)
    notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
    with memory_of_children() as megabytes:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(alone)}}).execute()
    record_property(name, megabytes[-1])
    assert 100 < megabytes[-1] < 2000, f"{megabytes[-1]:,} MB; Binder has 2 GB"

    *outputs, where = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert Path(where.text.strip()).parent == content.resolve() / "learn-reptile" / "reptile_helpers"
    assert ("GENERATED" in str(outputs)) == ("load_characters" in source)
    assert ("T4 GPU" in str(outputs)) == name.startswith("08"), "only 08 has a use for a GPU"
