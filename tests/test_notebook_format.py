"""The form that all notebooks share: what a reader sees first, what is folded, where the answers stand, how it ends."""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

EVERY = sorted(Path(__file__).resolve().parents[1].glob("notebooks/*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
ENDING = ["What you have seen", "On your own", "In practice", "Further reading", "Solutions"]


class Notebook:
    def __init__(self, path):
        self.path = path
        self.cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for cell in self.cells:
            cell["source"] = "".join(cell["source"])
        self.code = [cell for cell in self.cells if cell["cell_type"] == "code"]
        self.prose = "\n\n".join(cell["source"] for cell in self.cells if cell["cell_type"] == "markdown")

    def headings(self):
        return [re.sub(r"^\d+\. ", "", text) for text in re.findall(r"^## (.+)$", self.prose, re.M)]

    def calls(self):
        """(name, call, cell) of each call such as `name(…)` or `something.name(…)`."""
        for cell in self.code:
            for node in ast.walk(ast.parse(cell["source"])):
                if isinstance(node, ast.Call):
                    yield getattr(node.func, "id", getattr(node.func, "attr", None)), node, cell


def is_folded(cell):
    metadata = cell["metadata"]
    return metadata.get("jupyter", {}).get("source_hidden") is True and metadata.get("cellView") == "form"


def is_solution(cell):
    return "solution" in cell["metadata"].get("tags", ())


@pytest.fixture(params=EVERY, ids=lambda path: path.stem)
def notebook(request):
    return Notebook(request.param)


def test_no_live_view_is_stored(notebook):
    assert not [cell for cell in notebook.code if WIDGET in str(cell["outputs"])], "use nox -s refresh"


def test_setup_and_imports_come_first_and_are_folded(notebook):
    setup, imports = notebook.code[:2]
    assert setup["source"].startswith("# @title Setup") and imports["source"].startswith("# @title Imports")
    for cell in notebook.code:
        assert is_folded(cell) == cell["source"].startswith("# @title "), cell["source"].splitlines()[0]
        hidden = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
        assert hidden == is_folded(cell), "source_hidden and cellView must be set together"


def test_figures_have_our_style(notebook):
    assert "use_style()" in notebook.code[1]["source"], "call use_style() after the imports"


def test_the_first_screen_has_a_picture(notebook):
    first, *others = notebook.cells[:5]
    pictures = re.findall(r"!\[([^]]*)\]\((pictures/[^)]+)\)", first["source"])
    assert pictures or any("<img" in str(cell.get("outputs")) for cell in others), "no picture near the top"
    for alternative, file in pictures:
        assert len(alternative.split()) > 3, "a picture needs a text alternative"
        assert (notebook.path.parent / file).is_file(), file
    for promise in ("What you'll do", "What you'll learn", "What you'll need"):
        assert promise in notebook.prose, promise


def test_code_fits_the_screen(notebook):
    for cell in notebook.code[1:]:
        long = [line for line in cell["source"].splitlines() if len(line) > 100]
        assert not long, long[0]
        if not is_folded(cell):
            assert len(cell["source"].splitlines()) <= 30, cell["source"].splitlines()[0]


def test_solutions_stand_at_the_end(notebook):
    (place,) = [n for n, cell in enumerate(notebook.cells) if re.search(r"^## Solutions$", cell["source"], re.M)]
    assert notebook.headings()[-1] == "Solutions"
    solutions = [n for n, cell in enumerate(notebook.cells) if is_solution(cell)]
    assert solutions and min(solutions) > place
    for n in solutions:
        assert notebook.cells[n]["source"].startswith("# @title Solution")
    for cell in notebook.code:
        assert ("# your code here" in cell["source"]) <= ("checks." in cell["source"]), "a stub without its check"


def test_a_prediction_is_asked_for_and_compared(notebook):
    names = [name for name, _, _ in notebook.calls()]
    assert "predict" in names and "compare" in names
    asked, compared = (
        min(n for n, cell in enumerate(notebook.code) if call in cell["source"]) for call in ("predict(", ".compare(")
    )
    assert asked < compared


def test_the_ending(notebook):
    headings = [heading for heading in notebook.headings() if heading in ENDING]
    assert headings == ENDING
    (seen,) = re.findall(r"^## (?:\d+\. )?What you have seen\n(.+?)(?=^## )", notebook.prose, re.M | re.S)
    assert 15 < len(seen.split()) < 150


def test_the_next_notebook_is_a_link(notebook):
    following = {a.name: b.name for a, b in pairwise(EVERY)}.get(notebook.path.name)
    assert following is None or f"]({following})" in notebook.prose


def test_links_lead_somewhere(notebook):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", notebook.prose):
        assert target.startswith("http") or (notebook.path.parent / target).exists(), target


def test_no_figure_is_stored_twice(notebook):
    figures = re.findall(r'data:image/png;base64,([^\\"]+)', json.dumps([cell["outputs"] for cell in notebook.code]))
    assert len(figures) == len({*figures})


def test_what_is_folded_in_prose_unfolds(notebook):
    for cell in notebook.cells:
        if cell["cell_type"] == "markdown":
            tags = [cell["source"].count(tag) for tag in ("<details", "</details>", "<summary", "</summary>")]
            assert len({*tags}) == 1, cell["source"][:80]


def test_it_can_be_read_in_a_sitting(notebook):
    words = len(re.sub(r"<[^>]+>|https?://\S+|\$[^$]*\$", " ", notebook.prose).split())
    assert 20 <= len(notebook.cells) <= 75 and 700 <= words <= 3500, (len(notebook.cells), words)
