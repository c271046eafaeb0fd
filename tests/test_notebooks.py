"""What must hold of every notebook as it is stored, and that notebook and module say the same."""

import ast
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

from reptile_helpers import evaluate, models
from reptile_helpers.checkpoint import PRETRAINED, load_pretrained
from reptile_helpers.models import omniglot_cnn, sine_mlp
from reptile_helpers.reptile import InnerLoop, Learner, adapt_one_by_one, adapt_together, meta_train, minibatches
from reptile_helpers.tasks import FewShotTasks, SineTasks

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
ADDRESS = runpy.run_path(str(ROOT / ".ci" / "address"))


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
    assert "widgets" not in notebook["metadata"], "GitHub refuses notebooks with broken widget state: use .ci/refresh"
    assert [cell["execution_count"] for cell in code(path)] == list(range(1, len(code(path)) + 1)), "use .ci/refresh"
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
    figures = [{k.arg for k in call.keywords} for call in calls if call.func.id in ("show", "picture")]
    assert figures and all({"alt", "caption"} <= keywords for keywords in figures)
    if "load_characters" in source:
        assert all("data" in keywords for keywords in figures), "a figure from characters must declare generated ones"
        numbers = [node for node in calls if node.func.id == "print" and "%" in ast.unparse(node).replace(":.0%", "")]
        assert numbers, "no number is printed"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_elsewhere(path):
    """.ci/address has been run, and only 08 asks Colab for a GPU."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "".join(code(path)[0]["source"]) == ADDRESS["first_cell"](*ADDRESS["read"]()), "use .ci/address"
    gpu = {"accelerator": "GPU", "colab": {"gpuType": "T4"}} if path.name.startswith("08") else {}
    assert {key: value for key, value in notebook["metadata"].items() if key in ("accelerator", "colab")} == gpu


def test_the_address_is_written_everywhere_and_nothing_else_is(tmp_path):
    def texts(root):
        return {name: (root / name).read_text(encoding="utf-8") for name in names}

    names = ["pyproject.toml", "README.md", *(f"notebooks/{path.name}" for path in NOTEBOOKS)]
    (tmp_path / "notebooks").mkdir()
    for name in names:
        shutil.copy(ROOT / name, tmp_path / name)
    ADDRESS["write"](root=tmp_path)
    assert texts(tmp_path) == texts(ROOT), "use .ci/address"

    old, new = ADDRESS["read"]()[0], "https://github.com/someone/somewhere"
    ADDRESS["write"](new, root=tmp_path)
    for name, text in texts(tmp_path).items():
        assert text.count("someone/somewhere") == {"pyproject.toml": 1, "README.md": 2}.get(name, 3), name
    ADDRESS["write"](old, root=tmp_path)
    assert texts(tmp_path) == texts(ROOT)


@pytest.mark.parametrize("setting", [{"https_proxy": "http://127.0.0.1:9"}, {"PATH": ""}], ids=["no network", "no git"])
def test_a_notebook_alone_says_what_is_missing(setting, tmp_path):
    cell = ADDRESS["first_cell"]("https://nowhere.invalid/someone/somewhere", "v1")
    run = subprocess.run(
        [sys.executable, "-c", cell], cwd=tmp_path, env=os.environ | setting, capture_output=True, text=True
    )
    said = run.stderr.splitlines()[-1]
    assert said.startswith("RuntimeError: reptile_helpers is missing, and 'git ")
    assert f"so that {tmp_path.resolve() / 'learn-reptile'} holds reptile_helpers, and run" in said


def test_conda_and_binder_get_what_pip_gets():
    floors = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    environment = (ROOT / "environment.yml").read_text().splitlines()
    for name, floor in (line.split(">=") for line in floors):
        name = {"torch": "pytorch", "matplotlib": "matplotlib-base"}.get(name, name)
        assert f"  - {name}>={floor}" in environment


def test_the_table_of_faults_names_tests_that_exist():
    table = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
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
    (reptile,) = functions("01", "reptile")
    assert len(notebook_source("01", "reptile").splitlines()) <= 25
    torch.manual_seed(0)
    model = sine_mlp()
    start = Learner.of(model)
    inner = InnerLoop("sgd", lr=0.02, steps=5, batch_size=10)
    expected = meta_train(
        model, start, SineTasks(shots=50), inner, meta_iterations=30, meta_batch=1, epsilon=1.0,
        generator=torch.Generator().manual_seed(3), adapt=adapt_one_by_one,
    )  # fmt: skip
    reptile(model, SineTasks(shots=50), torch.Generator().manual_seed(3), meta_iterations=30)
    for name, p in model.named_parameters():
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


def test_the_notebooks_sampling_is_the_modules():
    (sample_indices,) = functions("05", "sample_indices")
    images = torch.zeros(9, 6, 28, 28, dtype=torch.uint8)
    sample_indices.__globals__["generator"] = torch.Generator().manual_seed(4)
    expected = FewShotTasks(images, 4, 2, 3).sample_indices(20, torch.Generator().manual_seed(4))
    for a, b in zip(sample_indices(images, 20, 4, 5), expected, strict=True):
        assert torch.equal(a, b)


def test_forward_tasks_in_the_notebook_is_the_modules():
    (forward_tasks,) = functions("04", "forward_tasks")
    for model, x in ((sine_mlp(), torch.randn(3, 4, 1)), (omniglot_cnn(5), torch.rand(3, 4, 1, 28, 28))):
        weights = {name: torch.randn(3, *p.shape) / 5 for name, p in model.named_parameters()}
        expected = models.forward_tasks(model, weights, x)
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
    tables = readme[readme.index("Sine waves (notebook 01)") : readme.index("To repeat them, run the notebook")]
    stored = json.dumps([cell["outputs"] for path in NOTEBOOKS if path.name[:2] in ("01", "06") for cell in code(path)])
    told = [n for row in tables.splitlines() if "paper" not in row for n in re.findall(r"[\d.]+ ± [\d.]+", row)]
    assert len(told) == 13
    assert not [number for number in told if json.dumps(number)[1:-1] not in stored]
