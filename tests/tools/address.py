"""Write the repository's address to where readers meet it: nox -s address [-- https://github.com/OWNER/NAME].

The address is kept in pyproject.toml. From there it goes into the first code cell of every notebook, which clones the
repository where reptile_helpers is missing, and into the badges of the notebooks and of README.md. There are no badges
as long as the address is not known. The tag of the version is written with it, so run this without an argument after
every change of `reptile_helpers.__version__`.
"""

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = ".invalid/"  # part of the address as long as there is none

CELL = """\
# @title Setup: find reptile_helpers
import importlib.util
import subprocess
import sys
from pathlib import Path

address, tag = "ADDRESS", "TAG"
here, init = Path.cwd(), "reptile_helpers/__init__.py"
found = [folder for folder in (here, *here.parents) if (folder / init).is_file()]
if not found and not importlib.util.find_spec("reptile_helpers"):  # the notebook came alone
    clone = Path("/content" if "google.colab" in sys.modules else here, "learn-reptile")
    found = [file.parents[1] for file in (*clone.glob(init), *here.glob(f"*/{init}"))] or [clone]
    options = "-c core.askPass=true -c advice.detachedHead=false"  # better to fail than to wait for a password
    git = f"git {options} clone -q --depth 1 -b {tag} {address} learn-reptile"
    if not (found[0] / init).is_file() and subprocess.call(git, shell=True, cwd=clone.parent):
        raise RuntimeError(f"Unzip the repository so that {clone} holds reptile_helpers, and run this cell again.")
sys.path[:0] = [str(folder) for folder in found[:1]]
module = importlib.import_module("reptile_helpers")
repository = Path(module.__path__[0]).parent
if (version := "v" + getattr(module, "__version__", "0.1.0")) != tag:
    print(f"This notebook needs reptile_helpers {tag}, but the one in {repository} is {version}.")
    print("Update or delete that folder, restart the kernel, and run this cell again.")"""
# Folded in JupyterLab and on Colab.
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}
# What Jupyter itself stores, less Python's version. nbconvert needs it to write .py files.
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "nbconvert_exporter": "python"}


def first_cell(address, tag):
    return CELL.replace('"ADDRESS", "TAG"', f'"{address}", "{tag}"')


def with_badges(text, address, tag, path):
    """The text with badges under its title that open the notebook `path`; without them where the address is unknown."""
    title, _, rest = text.partition("\n\n")
    if rest.startswith("[![Open in Colab]"):
        _, _, rest = rest.partition("\n\n")
    if UNKNOWN in address:
        return f"{title}\n\n{rest}"
    owner_and_name = "/".join(address.split("/")[-2:])
    colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/{tag}/{path}"
    binder = f"https://mybinder.org/v2/gh/{owner_and_name}/{tag}?labpath={path}"
    return (
        f"{title}\n\n[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n"
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})\n\n{rest}"
    )


def read(root=ROOT):
    """The address and the tag."""
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    module = (root / "reptile_helpers" / "__init__.py").read_text(encoding="utf-8")
    version = re.search('^__version__ = "(.*)"$', module, re.M)[1]
    return re.search('^Repository = "(.*)"$', project, re.M)[1], f"v{version}"


def write_notebook(path, address, tag):
    """Source and metadata only: outputs and execution counts stay."""
    notebook = nbformat.read(path, as_version=4)
    title, *others = notebook.cells
    title.source = with_badges(title.source, address, tag, f"notebooks/{path.name}")
    first = next((cell for cell in others if cell.cell_type == "code"), None)
    if not first or "address, tag = " not in first.source:
        sys.exit(f"The first code cell of {path} must be the setup cell: copy it from another notebook.")
    first.source = first_cell(address, tag)
    first.metadata.update(FOLDED)
    notebook.metadata.language_info = LANGUAGE
    nbformat.write(notebook, path)


def write(address=None, root=ROOT):
    if address:
        project = root / "pyproject.toml"
        text = project.read_text(encoding="utf-8")
        text = re.sub('^Repository = ".*"$', f'Repository = "{address}"', text, flags=re.M)
        project.write_text(text, encoding="utf-8")
    address, tag = read(root)
    notebooks = sorted(root.glob("notebooks/*.ipynb"))
    for path in notebooks:
        write_notebook(path, address, tag)
    readme = root / "README.md"
    text = with_badges(readme.read_text(encoding="utf-8"), address, tag, f"notebooks/{notebooks[0].name}")
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    given = sys.argv[1].rstrip("/").removesuffix(".git") if len(sys.argv) > 1 else None
    if given and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", given):
        sys.exit(f"{given} is not of the form https://github.com/OWNER/NAME, which the badges need.")
    write(given)
