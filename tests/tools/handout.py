"""Copy the notebooks for a class, without solutions and stored outputs: nox -s handout [-- FOLDER], default handout/.

Cells that are tagged "solution" are left out, and so is the section called Solutions. Exercises, their checks and hints
stay. So do the setup cells: in the copy, too, they find the module if FOLDER is inside the repository, or clone it.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from address import ROOT

HEADING = re.compile("(#+) +Solutions")


def without_solutions(notebook):
    level = None  # of the heading Solutions, while its section lasts
    kept = []
    for cell in notebook.cells:
        heading = re.match("(#+) ", cell.source) if cell.cell_type == "markdown" else None
        if heading and (level is None or len(heading[1]) <= level):
            level = len(heading[1]) if HEADING.match(cell.source) else None
        if level is None and "solution" not in cell.metadata.get("tags", ()):
            kept.append(cell)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells = kept
    return notebook


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    pictures = ROOT / "notebooks" / "pictures"
    if pictures.is_dir():
        shutil.copytree(pictures, folder / "pictures", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__*"))
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        nbformat.write(without_solutions(nbformat.read(path, as_version=4)), folder / path.name)
    print(f"{folder.resolve()} has the notebooks without their solutions.")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "handout"))
