"""What must hold of every notebook as it is stored, and that notebook and module say the same."""

import ast
import copy
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nbconvert.exporters import ScriptExporter
from PIL import Image
from torch import nn

from reptile_helpers import checks, evaluate, stacked
from reptile_helpers.checkpoint import PRETRAINED, load_pretrained
from reptile_helpers.learner import InnerLoop, Learner, minibatches
from reptile_helpers.models import omniglot_cnn, sine_mlp
from reptile_helpers.reptile import adapt_one_by_one, meta_train
from reptile_helpers.stacked import adapt_together
from reptile_helpers.tasks import FewShotTasks, SineTasks

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
ADDRESS = runpy.run_path(str(ROOT / "tests" / "tools" / "address.py"))


def code(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def functions(number, *names):
    """Functions of a notebook, by name, without running the rest of it."""
    (path,) = [p for p in NOTEBOOKS if p.name.startswith(number)]
    space, imports = {}, []
    for cell in code(path):
        for node in ast.parse("".join(cell["source"])).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(ast.unparse(node))
            elif isinstance(node, ast.FunctionDef) and node.name in names:
                exec("\n".join(imports) + "\n" + ast.unparse(node), space)
    return [space[name] for name in names]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_as_it_ran(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"], "GitHub refuses broken widget state: use nox -s refresh"
    assert [cell["execution_count"] for cell in code(path)] == list(range(1, len(code(path)) + 1)), "use nox -s refresh"
    outputs = [output for cell in code(path) for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert "GENERATED" not in json.dumps(outputs), "store notebooks that ran on Omniglot"
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_say_what_they_show_and_where_they_come_from(path):
    source = "\n".join("".join(cell["source"]) for cell in code(path))
    calls = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    figures = [{k.arg for k in call.keywords} for call in calls if call.func.id in ("show", "render")]
    assert figures and all({"alt", "caption"} <= keywords for keywords in figures)
    if "load_characters" in source:
        assert all("data" in keywords for keywords in figures), "a figure from characters must declare generated ones"
        numbers = [node for node in calls if node.func.id == "print" and "%" in ast.unparse(node).replace(":.0%", "")]
        assert numbers, "no number is printed"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_elsewhere(path):
    """The address has been written, and only 08 asks Colab for a GPU."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = code(path)[0]
    assert "".join(first["source"]) == ADDRESS["first_cell"](*ADDRESS["read"]()), "use nox -s address"
    assert first["metadata"] == ADDRESS["FOLDED"] and not first["outputs"]
    gpu = {"accelerator": "GPU", "colab": {"gpuType": "T4"}} if path.name.startswith("08") else {}
    assert {key: value for key, value in notebook["metadata"].items() if key in ("accelerator", "colab")} == gpu


def test_the_address_is_written_everywhere_and_nothing_else_is(tmp_path):
    def texts(root):
        return {name: (root / name).read_text(encoding="utf-8") for name in names}

    names = ["pyproject.toml", "README.md", *(f"notebooks/{path.name}" for path in NOTEBOOKS)]
    for name in [*names, "reptile_helpers/__init__.py"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    ADDRESS["write"](root=tmp_path)
    assert texts(tmp_path) == texts(ROOT), "use nox -s address"

    unknown, new = "https://address-not-set-yet.invalid/OWNER/learn-reptile", "https://github.com/someone/somewhere"
    ADDRESS["write"](new, root=tmp_path)
    for name, text in texts(tmp_path).items():
        assert text.count("someone/somewhere") == {"pyproject.toml": 1, "README.md": 2}.get(name, 3), name
    ADDRESS["write"](unknown, root=tmp_path)
    assert not [name for name, text in texts(tmp_path).items() if "badge.svg" in text], "a badge would lead nowhere"
    ADDRESS["write"](ADDRESS["read"]()[0], root=tmp_path)
    assert texts(tmp_path) == texts(ROOT)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nbconvert_writes_python(path):
    script, resources = ScriptExporter().from_filename(path)
    assert resources["output_extension"] == ".py", "use nox -s address"
    ast.parse(script)


class Setup:
    """Runs the first code cell in a folder, as a kernel would, with a module that is nothing but a version."""

    tag = "v1.2.0"

    def __init__(self, folder):
        self.folder = folder

    def repository(self, name, version=tag):
        """A folder with notebooks/ and the module."""
        (self.folder / name / "notebooks").mkdir(parents=True)
        (self.folder / name / "reptile_helpers").mkdir()
        init = self.folder / name / "reptile_helpers" / "__init__.py"
        init.write_text(f'__version__ = "{version[1:]}"\n' if version > "v1" else "", encoding="utf-8")
        return self.folder / name

    def published(self):
        """The address of a Git repository with the module at the tag."""
        repository = self.repository("published")
        commit = "-c user.name=x -c user.email=x commit --quiet --message=x"
        for command in ("init --quiet", "add .", commit, f"tag {self.tag}"):
            subprocess.run(["git", *command.split()], cwd=repository, check=True)
        return repository.as_uri()

    def run(self, where, address="https://the-clone-is.invalid/there/already", **environment):
        """The folder that the module is imported from, and everything that is shown on the way.

        With -S there is only the standard library: not this environment, where the module may be installed.
        """
        cell = ADDRESS["first_cell"](address, self.tag).replace('"/content"', repr(str(self.folder / "content")))
        start = "import sys; sys.modules['google.colab'] = sys\n" if "content" in where.parts else ""
        script = f"{start}{cell}\n{cell}\nprint(module.__path__[0])"  # run twice, as in a notebook that is restarted
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
        run = subprocess.run(
            [sys.executable, "-S", "-X", "utf8", "-c", script],
            cwd=where, env=environment, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip
        shown = run.stderr + run.stdout
        if run.returncode:
            return None, shown
        *shown, module = shown.splitlines()
        return Path(module).resolve().parent, "\n".join(shown)


@pytest.fixture
def setup(tmp_path):
    return Setup(tmp_path.resolve())


@pytest.mark.parametrize(
    "name", ["learn-reptile", "learn-reptile-main", pytest.param("学习 reptile ñ", marks=pytest.mark.foreign_names)]
)
@pytest.mark.parametrize("where", ["{}/notebooks", "{}", "{}/notebooks/mine/2027", "."])
def test_a_notebook_finds_the_repository_it_is_in_or_next_to(setup, name, where):
    repository = setup.repository(name)
    (setup.folder / "another").mkdir()
    here = setup.folder / where.format(name)
    here.mkdir(parents=True, exist_ok=True)
    files = sorted(setup.folder.rglob("*"))
    assert setup.run(here) == (repository, "")
    assert sorted(file for file in setup.folder.rglob("*") if "__pycache__" not in str(file)) == files, "it was cloned"


def test_a_notebook_elsewhere_uses_the_installed_module(setup):
    installed, repository = setup.repository("site-packages"), setup.repository("learn-reptile")
    (setup.folder / "elsewhere").mkdir()
    assert setup.run(setup.folder / "elsewhere", PYTHONPATH=str(installed)) == (installed, "")
    assert setup.run(repository / "notebooks", PYTHONPATH=str(installed)) == (repository, "")
    assert setup.run(setup.folder, PYTHONPATH=str(installed)) == (installed, "")


@pytest.mark.parametrize(
    "where",
    ["alone", "content", "content/drive/mine", pytest.param("mit Leerzeichen – 空", marks=pytest.mark.foreign_names)],
)
def test_a_notebook_alone_clones_the_repository_once(setup, where):
    (setup.folder / where).mkdir(parents=True)
    clone = setup.folder / where.partition("/")[0] / "learn-reptile"
    assert setup.run(setup.folder / where, setup.published()) == (clone, "")
    assert setup.run(setup.folder / where) == (clone, "")
    assert subprocess.check_output(["git", "describe", "--tags"], cwd=clone, text=True).strip() == setup.tag


@pytest.mark.parametrize("version", ["v0.1.0", "v1.1.0", "v1.3.0"])
@pytest.mark.parametrize("where", ["learn-reptile/notebooks", "learn-reptile", ".", "content", "installed"])
def test_another_version_of_the_module_is_never_used_without_a_word(setup, where, version):
    repository = setup.repository("content/learn-reptile" if where == "content" else "learn-reptile", version)
    (setup.folder / where).mkdir(exist_ok=True)
    module, shown = setup.run(setup.folder / where, PYTHONPATH=str(repository) if where == "installed" else "")
    assert module == repository
    assert f"needs reptile_helpers v1.2.0, but the one in {repository} is {version}." in shown
    assert "Update or delete that folder, restart the kernel" in shown


@pytest.mark.parametrize("setting", [{"https_proxy": "http://127.0.0.1:9"}, {"PATH": ""}], ids=["no network", "no git"])
def test_a_notebook_alone_says_what_is_missing(setup, setting):
    module, shown = setup.run(setup.folder, **setting)
    assert module is None
    clone = setup.folder / "learn-reptile"
    todo = f"RuntimeError: Unzip the repository so that {clone} holds reptile_helpers, and run this cell again."
    assert todo in shown.splitlines()


def test_a_clone_that_was_interrupted_is_not_taken_for_the_repository(setup):
    (setup.folder / "learn-reptile" / ".git").mkdir(parents=True)
    module, shown = setup.run(setup.folder, setup.published())
    assert module is None or module == setup.folder / "published"
    (setup.folder / "alone" / "learn-reptile" / ".git").mkdir(parents=True)
    module, shown = setup.run(setup.folder / "alone", (setup.folder / "published").as_uri())
    assert module is None and "already exists" in shown and "Unzip the repository so that" in shown


def test_conda_and_binder_get_what_pip_gets():
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    floors = [line for line in wanted.splitlines() if not line.startswith("#")]
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    for name, floor in (line.split(">=") for line in floors):
        name = {"torch": "pytorch", "matplotlib": "matplotlib-base"}.get(name, name)
        assert f"  - {name}>={floor}" in environment


def test_the_table_of_faults_names_tests_that_exist():
    table = (ROOT / "tests" / "README.md").read_text(encoding="utf-8").partition("## What can go wrong")[2]
    tests = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py")}
    last_columns = [row.split("|")[-2] for row in table.splitlines() if row.startswith("| ")]
    named = [name.rpartition("::") for column in last_columns for name in re.findall("`(.*?)`", column)]
    assert len(named) > 30
    for file, _, name in named:
        if name in tests:
            continue
        pattern = r"\ndef \w*" + r"\w*".join(map(re.escape, name.split("…"))) + r"\("
        assert any(re.search(pattern, text) for text in ([tests[file]] if file else tests.values())), name


def test_reptile_in_the_notebook_is_meta_train():
    """With the outer step of the solution, and with the one that an unsolved exercise returns."""
    reptile, solution = functions("01", "reptile", "outer_step")
    assert len(notebook_source("01", "reptile").splitlines()) <= 25
    torch.manual_seed(0)
    model = sine_mlp()
    start = Learner.of(model)
    inner = InnerLoop("sgd", lr=0.02, steps=5, batch_size=10)
    expected = meta_train(
        model, start, SineTasks(shots=50), inner, meta_iterations=30, meta_batch=1, epsilon=1.0,
        generator=torch.Generator().manual_seed(3), adapt=adapt_one_by_one,
    )  # fmt: skip
    for outer_step in (solution, checks.outer_step(lambda phi, theta, epsilon: None)):
        reptile.__globals__["outer_step"] = outer_step
        learner = copy.deepcopy(model)
        reptile(learner, SineTasks(shots=50), torch.Generator().manual_seed(3), meta_iterations=30)
        for name, p in learner.named_parameters():
            assert torch.allclose(p, expected.weights[name], atol=1e-6)
            assert not torch.allclose(p, start.weights[name], atol=1e-4)


def notebook_source(number, function):
    (path,) = [p for p in NOTEBOOKS if p.name.startswith(number)]
    (source,) = ["".join(cell["source"]) for cell in code(path) if f"def {function}(" in "".join(cell["source"])]
    return source


def test_nearest_neighbour_in_the_notebook_is_the_modules():
    (nearest,) = functions("05", "nearest_neighbour")
    images = torch.randint(2, (9, 6, 28, 28)).to(torch.uint8) * 255
    batch = FewShotTasks(images, 4, 2, 3).sample(20, torch.Generator().manual_seed(0))
    assert torch.equal(nearest(batch), evaluate.nearest_neighbour(batch))


def test_adapt_in_notebook_06_is_adapt_together():
    adapt, _ = functions("06", "adapt", "adam_step")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    learner = Learner.of(model)
    for first in (True, False):  # with fresh and with carried moments
        inner = InnerLoop("adam", lr=0.01, steps=4, batch_size=6)
        batches = torch.arange(6).expand(1, 4, 6)
        expected = adapt_together(model, learner, x[None], y[None], batches, inner)
        adapted, losses = adapt(model, learner, x, y, k=4, alpha=0.01)
        assert adapted.adam_steps == expected.adam_steps == (4 if first else 8) and losses[0] > losses[3]
        for name in learner.weights:
            assert torch.allclose(adapted.weights[name], expected.weights[name][0], rtol=1e-9)
            assert torch.allclose(adapted.second_moment[name], expected.second_moment[name][0], rtol=1e-9)
        learner = adapted


@pytest.mark.parametrize("mode", evaluate.MODES[:2])
def test_closest_in_features_is_the_nearest_neighbour(mode):
    closest, *_ = functions("06", "closest_in_features", "features", "one_query_batches")
    closest.__globals__["TRANSDUCTIVE"] = "transductive"
    images = torch.randint(2, (9, 6, 28, 28)).to(torch.uint8) * 255
    batch = FewShotTasks(images, 4, 2).sample(20, torch.Generator().manual_seed(0))
    expected = 100 * evaluate.accuracy(evaluate.nearest_neighbour(batch), batch.query_y)
    assert torch.equal(closest(nn.Sequential(nn.Flatten()), batch, mode), expected)


def test_images_from_folders_take_any_size_and_colour(tmp_path):
    (images_from_folders,) = functions("06", "images_from_folders")
    for c, count in enumerate((3, 2)):
        (tmp_path / f"class {c}").mkdir()
        for n in range(count):
            Image.new("RGB", (40 + n, 60), (100 * c + 10 * n,) * 3).save(tmp_path / f"class {c}" / f"{n}.png")
    (tmp_path / "class 1" / "notes.txt").write_text("not an image")
    images = images_from_folders(tmp_path)
    assert images.shape == (2, 2, 28, 28) and images.dtype == torch.uint8
    assert images[:, :, 0, 0].tolist() == [[0, 10], [100, 110]]
    assert FewShotTasks(images, ways=2, shots=1).sample(1, torch.Generator().manual_seed(0)).query_x.shape[1] == 2


def test_reptile_in_notebook_06_is_as_good_as_promised():
    (path,) = [p for p in NOTEBOOKS if p.name.startswith("06")]
    printed = "".join("".join(output.get("text", "")) for cell in code(path) for output in cell["outputs"])
    for shots, floor in ((1, 80), (5, 93)):
        assert float(re.search(rf"Reptile, {shots}-shot, transductive: ([\d.]+)", printed)[1]) > floor


def test_forward_tasks_in_the_notebook_is_the_modules():
    _, forward_tasks = functions("04", "conv_tasks", "forward_tasks")  # the last conv_tasks is the solution
    for model, x in ((sine_mlp(), torch.randn(3, 4, 1)), (omniglot_cnn(5), torch.rand(3, 4, 1, 28, 28))):
        weights = {name: torch.randn(3, *p.shape) / 5 for name, p in model.named_parameters()}
        expected = stacked.forward_tasks(model, weights, x)
        assert torch.allclose(forward_tasks(model, weights, x), expected, rtol=1e-4, atol=1e-4)


def test_adapt_in_the_notebook_is_adapt_together():
    adapt, _ = functions("04", "adapt", "forward_tasks")
    model, inner = sine_mlp(), InnerLoop("sgd", lr=0.02, steps=3, batch_size=4)
    x, y, _, _ = SineTasks().sample(3, torch.Generator().manual_seed(0))
    batches = minibatches(3, 10, inner, torch.Generator().manual_seed(0))
    expected = adapt_together(model, Learner.of(model), x, y, batches, inner).weights
    result = adapt(model, Learner.of(model).weights, x, y, batches, 0.02)
    assert all(torch.allclose(result[name], p, atol=1e-6) for name, p in expected.items())


@pytest.mark.parametrize("ways", [5, 20])
def test_the_readme_tells_what_the_files_say(ways):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    name = f"omniglot_{ways}way"
    report = json.loads((PRETRAINED / f"{name}.json").read_text(encoding="utf-8"))
    part = readme[readme.index(f"[`{name}`]") :].split("\n\n")
    assert f"{report['configuration']['iterations']:,}" in part[0] and report["configuration"]["seed"] == 0
    assert f"{report['test']['tasks']:,} test tasks" in part[0]
    for shots, modes in report["test"]["results"].items():
        for mode, (mean, half) in modes.items():
            (row,) = [line for line in part[1].splitlines() if line.startswith(f"| {mode} |")]
            assert f"{100 * mean:.2f} ± {100 * half:.2f}" in row, (shots, mode)
    assert report["configuration"] == load_pretrained(name)["configuration"]


def test_the_readme_tells_what_ten_minutes_buy():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    runs = json.loads((PRETRAINED / "omniglot_5way_ten_minutes.json").read_text(encoding="utf-8"))
    runs = [run for run in runs if run["meta-training"]["processes"] == 2]
    results = [run["test"]["results"]["mean of phi over the last fifth"] for run in runs]
    one, two, three = (f"{100 * mean:.1f}" for mean, _ in results)
    assert f"{one}, {two} and {three} % (seeds 0, 1, 2; each ± 0.2) at one shot" in readme
    assert all(f"{100 * half:.1f}" == "0.2" for _, half in results)
    assert [(run["configuration"]["seed"], run["test"]["tasks"]) for run in runs] == [(n, 10_000) for n in range(3)]


def test_the_readme_tells_what_the_notebooks_measured():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    tables = readme[readme.index("Sine waves (notebook 01)") : readme.index("To repeat a result of notebook 01 or 06")]
    stored = json.dumps([cell["outputs"] for path in NOTEBOOKS if path.name[:2] in ("01", "06") for cell in code(path)])
    told = [n for row in tables.splitlines() if "paper" not in row for n in re.findall(r"[\d.]+ ± [\d.]+", row)]
    assert len(told) == 23
    assert not [number for number in told if json.dumps(number)[1:-1] not in stored]
    first = readme[: readme.index("## The notebooks")]
    table = [line.split("|") for line in reversed(readme.splitlines())]
    rows = {cells[1].strip(): cells[2] for cells in table if len(cells) > 3}  # the first of each name
    one_query = "support + one query"
    headlines = ("Reptile, 6,000 meta-iterations of 5 steps", "joint training, 30,000 steps", "Reptile", one_query)
    for headline in headlines:
        number = re.search(r"[\d.]+", rows[headline])[0]
        number = f"{float(number):.1f} %" if headline == one_query else number
        assert number in first, headline


def test_what_the_readme_shows_fits_its_column_and_leads_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\w+\n(.*?)```", readme, re.S)
    assert len(blocks) >= 6
    assert not [line for block in blocks for line in block.splitlines() if len(line) > 95], "readers have to scroll"
    anchors = {"#" + title.lower().replace(" ", "-") for title in re.findall("^#+ (.*)$", readme, re.M)}
    links = re.findall(r"\]\(([^)]*)\)", readme) + re.findall('src="(.*?)"', readme)
    links = [link for link in links if not link.startswith("https://")]
    assert not [link for link in links if link not in anchors and not (ROOT / link).exists()]
    assert {f"notebooks/{path.name}" for path in NOTEBOOKS} <= set(links)


def test_the_program_in_the_readme_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(import torch\n.*?)```", readme, re.S)
    smaller = {"meta_iterations=2000": "meta_iterations=2", "sample(200,": "sample(2,", "steps=50": "steps=2"}
    for text, new in smaller.items():
        assert text in program
        program = program.replace(text, new)
    exec(program, {})
