"""What contributors run. `nox -l` lists it, `nox -s NAME -- ARGUMENTS` runs it.

Sessions that begin with "Here" use the environment that nox itself is in: install the extras "dev" and "browser" there.
The others make an environment of their own, which takes minutes. What follows `--` goes to pytest or to the tool.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
TOOLS = ROOT / "tests" / "tools"
OLDEST, COLAB = "3.10", "3.13"
nox.options.sessions = ["lint"]

if shutil.which("pyenv"):  # without this, its python3.10 says that no such version has been chosen for this folder
    installed = subprocess.check_output(["pyenv", "versions", "--bare"], text=True).split()
    installed.sort(key=lambda version: not sys.version.startswith(f"{version} "))  # "python" stays the one that it is
    os.environ.setdefault("PYENV_VERSION", ":".join(installed))


def at_hand(version):
    """This version of Python where the machine has it, else the one that nox runs in."""
    python = shutil.which(f"python{version}") or ""
    works = python and not subprocess.run([python, "--version"], capture_output=True).returncode
    return version if works else ".".join(map(str, sys.version_info[:2]))


def run_here(session, *command):
    session.run(sys.executable, *command, *session.posargs, external=True)


def tell_versions(session):
    session.run("python", "-c", "import sys, torch; print('Python', sys.version, 'torch', torch.__version__)")


@nox.session(venv_backend="none")
def lint(session):
    """Here: check the style."""
    run_here(session, "-m", "ruff", "check", str(ROOT))


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def tests(session):
    """The README's test command on each Python, with the newest versions of everything."""
    session.install("-e", ".[dev]")
    tell_versions(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=OLDEST)
def oldest(session):
    """The same with the oldest versions that requirements.txt admits, on the oldest Python."""
    floors = Path(session.virtualenv.location) / "oldest.txt"  # in create_tmp() tests would find this repository
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    floors.write_text(wanted.replace(">=", "=="), encoding="utf-8")  # what they depend on is left to pip
    session.install("-r", str(floors), "-e", ".[dev]")
    tell_versions(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(venv_backend="none")
@nox.parametrize("where", ["folder", "locale", "core"], ids=["folder", "locale", "core"])
def elsewhere(session, where):
    """Here: the test command in a folder with spaces and foreign letters, without UTF-8, or on one core."""
    command, environment, folder = ["-m", "pytest"], {}, ROOT
    temporary = tempfile.TemporaryDirectory()  # deleted at the end; not create_tmp(), as above
    if where == "folder":
        folder = Path(temporary.name) / "mit Leerzeichen – 学习"
        unwanted = shutil.ignore_patterns(".git", ".nox", "data", "runs", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=unwanted)
        environment = {"REPTILE_DATA": os.environ.get("REPTILE_DATA", str(ROOT / "data"))}
    elif where == "locale":  # text is ASCII where no encoding is given, and the console is a Western one
        off = dict.fromkeys(("PYTHONUTF8", "PYTHONCOERCECLOCALE"), "0")
        environment = {"LC_ALL": "C", "PYTHONIOENCODING": "cp1252"} | off
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with session.chdir(folder):
        session.run(sys.executable, *command, *session.posargs, external=True, env=environment)


@nox.session(python=at_hand(COLAB))
def colab(session):
    """Every notebook alone, with Colab's versions (Python too, if at hand), without Omniglot and a network."""
    # Not the project, and nothing that it asks for: a notebook on Colab has what Colab has.
    session.install(
        "torch==2.11.*", "torchvision==0.26.*", "numpy==2.1.*", "matplotlib==3.10.0", "ipython==7.34.0",
        "ipykernel==6.17.1", "ipywidgets==7.7.1", "anywidget==0.9.21", "tqdm==4.67.*",
        "pytest", "pytest-xdist", "nbval", "nbclient", "psutil",
    )  # fmt: skip
    tell_versions(session)
    session.run("python", "-m", "pytest", "--dist", "load", *(session.posargs or ["tests/colab/test_colab.py"]))


@nox.session(venv_backend="none")
def browser(session):
    """Here: run every notebook in Chromium, and draw, drag and click in it."""
    run_here(session, "-m", "pytest", "tests/browser", "--dist", "load")


@nox.session(venv_backend="none")
def refresh(session):
    """Here: run notebooks from top to bottom and store them with their outputs [-- NOTEBOOK ...]."""
    run_here(session, str(TOOLS / "refresh.py"))


@nox.session(venv_backend="none")
def address(session):
    """Here: write the repository's address and the version's tag everywhere [-- https://github.com/OWNER/NAME]."""
    run_here(session, str(TOOLS / "address.py"))


@nox.session(venv_backend="none")
def handout(session):
    """Here: copy the notebooks for a class, without solutions and stored outputs [-- FOLDER]."""
    run_here(session, str(TOOLS / "handout.py"))
