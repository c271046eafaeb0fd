"""Run notebooks from top to bottom and store them with their outputs: nox -s refresh [-- NOTEBOOK ...].

A live view is stored as the still picture that its output carries for readers without a kernel. Progress bars carry
none and are dropped. Widgets themselves are not stored: GitHub refuses notebooks with broken widget state.
"""

import sys
from pathlib import Path

import nbformat
from address import LANGUAGE, ROOT
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"


def without_widgets(outputs):
    """The outputs as a reader without a kernel can see them."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if data.pop(WIDGET, None) is None or set(data) - {"text/plain"}:
            kept.append(output)
    return kept


def refresh(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = LANGUAGE
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps
        if cell.cell_type == "code":
            cell.outputs = without_widgets(cell.outputs)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    for path in paths or sorted(ROOT.glob("notebooks/*.ipynb")):
        print(f"running {path}", flush=True)
        refresh(path)
