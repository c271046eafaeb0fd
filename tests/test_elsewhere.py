"""That the project works on other people's machines: what a package contains, and nothing that one platform lacks."""

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = [
    path
    for folder in ("reptile_helpers", "notebooks", "tests/benchmarks", "tests/tools")
    for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
]
SOURCES = [
    ROOT / "noxfile.py",
    *sorted(ROOT.glob("notebooks/*.ipynb")),
    *(path for folder in ("notebooks", "reptile_helpers") for path in sorted(ROOT.glob(f"{folder}/**/*.py"))),
    *(path for path in sorted(ROOT.glob("tests/**/*.py")) if not path.name.startswith("test_")),
]
PARSER = ("ArgumentParser", "add_argument", "add_argument_group", "error")


def source(path):
    """The code of a module or of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The wheel and the sdist of this working tree, built without a network."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("dist")
    build = "from setuptools import build_meta as it; folder = {!r}; it.build_sdist(folder); it.build_wheel(folder)"
    name = "mit Leerzeichen" + " 学习" * (sys.getfilesystemencoding() != "ascii")
    tree = tmp_path_factory.mktemp(name) / "tree"  # a build leaves files in the tree
    tree.mkdir()
    for path in ("pyproject.toml", "requirements.txt", "MANIFEST.in", "README.md", "LICENSE"):
        (tree / path).write_bytes((ROOT / path).read_bytes())
    for path in [*ROOT.glob("reptile_helpers/**/*"), *ROOT.glob("tests/**/*")]:
        if path.is_file() and "__pycache__" not in path.parts:
            (tree / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            (tree / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    subprocess.run([sys.executable, "-c", build.format(str(folder))], cwd=tree, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_packages_have_the_whole_module_and_no_test(packages):
    wheel, sdist = packages
    whole = {name(path) for path in ROOT.glob("reptile_helpers/**/*") if path.is_file()}
    whole = {path for path in whole if "__pycache__" not in path and not path.rpartition("/")[2].startswith(".")}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {path for path in archive.namelist() if ".dist-info/" not in path}
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert in_wheel == whole
    assert whole <= in_sdist and {"README.md", "LICENSE", "requirements.txt"} <= in_sdist
    assert not [path for path in in_sdist if path.startswith("tests")], "half of the tests is worse than none"


def test_an_installed_module_keeps_its_data_where_the_user_is(packages, tmp_path):
    """Not in site-packages. And its version is that of the package."""
    wheel, _ = packages
    site, user = tmp_path / "site-packages", tmp_path / "the user's folder"
    user.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    files = sorted(site.rglob("*"))
    script = """
import reptile_helpers, torch
from reptile_helpers import generated
generated.generate_characters = lambda *size: torch.zeros(*size, 28, 28, dtype=torch.uint8)  # in less time
from reptile_helpers.characters import load_characters
from reptile_helpers.checkpoint import load_pretrained
load_pretrained("omniglot_5way")
assert load_characters().generated
print(reptile_helpers.__file__, reptile_helpers.__version__, sep="|")
"""
    environment = {key: value for key, value in os.environ.items() if key != "REPTILE_DATA"}
    environment |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "http_proxy": "http://127.0.0.1:9"}
    environment["https_proxy"] = environment["http_proxy"]
    run = subprocess.run([sys.executable, "-c", script], cwd=user, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    file, version = run.stdout.splitlines()[-1].split("|")
    assert Path(file).parents[1].resolve() == site.resolve()
    assert wheel.name.split("-")[1] == version
    assert (user / "data").is_dir() and sorted(site.rglob("*")) == files


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_text_files_name_their_encoding(path):
    """Ruff's PLW1514 sees only some of them. Without a name it is that of the machine, in Japan for example cp932."""
    for call in ast.walk(ast.parse(source(path))):
        if not isinstance(call, ast.Call):
            continue
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        modes = [it.value for it in call.args if isinstance(it, ast.Constant) and isinstance(it.value, str)]
        opens_text = function == "open" and any(set(mode) <= set("rwax+t") for mode in modes)
        opens_text |= function == "open" and isinstance(call.func, ast.Name) and not any("b" in mode for mode in modes)
        if function in ("read_text", "write_text") or opens_text:
            assert "encoding" in {it.arg for it in call.keywords}, ast.unparse(call)


@pytest.mark.parametrize("path", PROGRAMS, ids=name)
def test_programs_print_what_every_console_can_show(path):
    """A console, a pipe or a log file may know only ASCII, and a print that fails can lose a long run."""
    tree = ast.parse(source(path))
    calls = [it for it in ast.walk(tree) if isinstance(it, ast.Call)]
    printing = [it for it in calls if ast.unparse(it.func).rpartition(".")[2] in ("print", "exit", *PARSER)]
    strings = [it.value for call in printing for it in ast.walk(call) if isinstance(it, ast.Constant)]
    if "__doc__" in source(path):
        strings.append(ast.get_docstring(tree))
    shown = [string for string in strings if isinstance(string, str) and not string.isascii()]
    assert not shown or ".reconfigure(" in source(path), shown[0]


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=name)
def test_nobody_needs_a_package_called_tests(path):
    """Others install one, too: programs in tests/ are started by their path."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".py", ".ipynb"):
        imported = [it for it in ast.walk(ast.parse(source(path))) if isinstance(it, ast.Import | ast.ImportFrom)]
        modules = {getattr(it, "module", None) or it.names[0].name for it in imported}
        assert not {module for module in modules if module.partition(".")[0] == "tests"}
    assert "-m " + "tests." not in text


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "README.md"], ids=name)
def test_processes_find_each_other_where_the_name_of_the_machine_leads_nowhere(path):
    """On many laptops and in many containers it cannot be resolved, and torchrun would wait for it without end."""
    text = path.read_text(encoding="utf-8")
    commands = re.findall(r"torchrun(?: --[\w.=-]+)* --nproc-per-node", text)
    assert all("--local-addr=127.0.0.1" in command for command in commands), commands


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_cores_are_those_that_the_process_may_use(path):
    """In a container, or after taskset, there are fewer than the machine has."""
    uses = re.findall(r".*cpu_count\(\).*", source(path))
    assert all("affinity" in line for line in uses), uses


@pytest.mark.parametrize("path", PROGRAMS, ids=name)
def test_programs_start_from_any_folder_next_to_another_tests_package(path, tmp_path):
    if "argparse" not in source(path):
        pytest.skip("it has no --help")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("", encoding="utf-8")
    encoding, folders = "ascii", os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": folders, "PYTHONIOENCODING": encoding}
    command = [sys.executable, str(path), "--help"]
    if name(path).startswith("reptile_helpers/"):
        command = [sys.executable, "-m", name(path).removesuffix(".py").replace("/", "."), "--help"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding=encoding)
    assert run.returncode == 0 and "usage" in run.stdout, run.stderr
