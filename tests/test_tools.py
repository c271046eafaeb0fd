"""What contributors run: storing notebooks, and copying them for a class."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(params=["refresh", "handout"])
def tool(request, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "tools"))
    return importlib.import_module(request.param)


def of(name):
    return pytest.mark.parametrize("tool", [name], indirect=True)


@of("refresh")
def test_a_live_view_is_stored_as_its_picture_and_a_progress_bar_is_not_stored(tool):
    def output(**data):
        return nbformat.v4.new_output("display_data", {key.replace("_", "/"): value for key, value in data.items()})

    view, picture, number = (output(text_html="<img>", text_plain="it"), output(image_png="AA"), output(text_plain="1"))
    bar = output(text_plain="HBox(...)")
    printed = nbformat.v4.new_output("stream", text="5 %")
    for it in (view, bar):
        it.data[WIDGET] = {"model_id": "1"}
    assert tool.without_widgets([printed, bar, view, picture, number]) == [printed, view, picture, number]
    assert WIDGET not in view.data and view.data["text/html"] == "<img>"


@of("refresh")
def test_a_notebook_is_stored_as_it_ran(tool, tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("from os import getcwd\ngetcwd()")]
    path = tmp_path / "it.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    tool.refresh(path)
    _, cell = nbformat.read(path, as_version=4).cells
    assert cell.execution_count == 1 and "execution" not in cell.metadata
    assert cell.outputs[0].data["text/plain"] == repr(str(tmp_path.resolve()))


@of("handout")
def test_solutions_are_left_out_wherever_they_stand(tool):
    def code(source, *tags):
        return nbformat.v4.new_code_cell(source, execution_count=3, metadata={"tags": list(tags)} if tags else {})

    text = nbformat.v4.new_markdown_cell
    stay = [text("# Title\n\nSolutions are at the end."), code("stub"), text("## On your own"), code("1 + 1", "slow")]
    gone = [code("inline", "solution"), text("## Solutions\n\nTry first."), text("### Exercise 1"), code("answer")]
    after = [text("## Next"), code("end")]
    cells = [stay[0], gone[0], *stay[1:], *gone[1:], *after]
    notebook = tool.without_solutions(nbformat.v4.new_notebook(cells=cells))
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in [*stay, *after]]
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


def test_a_class_gets_every_notebook_without_its_solutions(tmp_path):
    command = [sys.executable, ROOT / "tests" / "tools" / "handout.py", tmp_path / "my class"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    for path in NOTEBOOKS:
        full, copy = (nbformat.read(it, as_version=4) for it in (path, tmp_path / "my class" / path.name))
        nbformat.validate(copy)
        solutions = [cell.source for cell in full.cells if "solution" in cell.metadata.get("tags", ())]
        left = [cell.source for cell in copy.cells]
        assert solutions and not set(solutions) & set(left), path.name
        stubs = [cell.source for cell in full.cells if "# your code here" in cell.source]
        assert set(stubs) - set(solutions) <= set(left), path.name
    pictures = {file.name for file in (ROOT / "notebooks").glob("pictures/*.*") if file.suffix != ".py"}
    assert pictures == {file.name for file in (tmp_path / "my class").glob("pictures/*")}


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_line_endings_and_binary_files_survive_windows(tmp_path):
    """A clone with Git for Windows' setting core.autocrlf=true."""
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    (tmp_path / ".ci").mkdir()
    files = {".ci/run": b"#!/bin/sh\ntrue\n", "a.pt": b"\0\r\n\n", "a.gif": b"GIF\n\n", "a.md": b"a\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    commit = "-c user.name=x -c user.email=x commit --quiet --message=x"
    for command in ("init --quiet", "add .", commit):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    clone = f"-c core.autocrlf=true clone --quiet {tmp_path.as_uri()} clone"
    subprocess.run(["git", *clone.split()], cwd=tmp_path, check=True)
    cloned = {name: (tmp_path / "clone" / name).read_bytes() for name in files}
    assert cloned == files | {"a.md": b"a\r\n"}
