"""Each exercise: its solution and another correct one pass, plausible wrong ones are told what is missing."""

import ast
import json
from pathlib import Path

import pytest
import torch

from reptile_helpers import checks

NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell, "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]


def exercises():
    """(notebook, check, stub, solution) of each exercise."""
    for path in NOTEBOOKS:
        cells = code_cells(path)
        for (_, stub), (cell, solution) in zip(cells, cells[1:], strict=False):
            if "solution" in cell["metadata"].get("tags", ()):
                check = ast.parse(stub).body[-1].value.func.attr
                yield pytest.param(stub, solution, id=f"{path.stem[:2]}-{check}")


def run(source, capsys):
    exec(source, {"torch": torch, "checks": checks})
    return capsys.readouterr().out


@pytest.mark.parametrize("stub, solution", list(exercises()))
def test_stub_and_solution(stub, solution, capsys):
    assert "# your code here" in stub
    assert run(stub, capsys).startswith("… not attempted yet")
    assert run(solution, capsys) == "✓ correct\n"
    signatures = [
        ast.dump(node.args) for s in (stub, solution) for node in ast.parse(s).body if isinstance(node, ast.FunctionDef)
    ]
    assert len(signatures) == 2 and signatures[0] == signatures[1]


def test_each_notebook_has_three_exercises():
    for path in NOTEBOOKS:
        assert sum("solution" in cell["metadata"].get("tags", ()) for cell, _ in code_cells(path)) >= 3, path.name


def test_each_check_is_tried_here():
    used = {param.id[3:] for param in exercises()}
    assert used == set(ALTERNATIVES) == {check for check, _, _ in WRONG}
    assert all(sum(check == name for name, _, _ in WRONG) >= 3 for check in used)


def sample_alternative(classes, drawings, ways, shots, queries):
    which = torch.rand(classes).topk(ways).indices
    both = torch.rand(ways, drawings).topk(shots + queries).indices
    return which, both[:, queries:], both[:, :queries]


def loop_accuracy(logits, labels):
    return torch.tensor(
        [
            sum(row.argmax() == y for row, y in zip(a, b, strict=True)) / len(b)
            for a, b in zip(logits, labels, strict=True)
        ]
    )


def whole_pool(support_x, query_x):
    return torch.cat([support_x.expand(len(query_x), *support_x.shape), query_x[:, None]], 1)


def adam_in_other_words(theta, g, v, t, alpha):
    v = torch.lerp(v, g * g, 0.001)
    return theta - alpha * g / (v.sqrt() / (1 - 0.999**t) ** 0.5 + 1e-8), v


ALTERNATIVES = {
    "outer_step": lambda phi, thetas, epsilon: (1 - epsilon) * phi + epsilon * sum(thetas) / len(thetas),
    "outer_gradient": lambda phi, thetas: sum(phi - theta for theta in thetas) / len(thetas),
    "interval": lambda scores: (scores.mean().item(), 1.96 * (scores.var() / scores.numel()).sqrt().item()),
    "sample_task": sample_alternative,
    "rotated_classes": lambda images: torch.cat(
        [images, images.transpose(2, 3).flip(3), images.flip(2, 3), images.transpose(2, 3).flip(2)]
    ),
    "task_accuracy": loop_accuracy,
    "annealed": lambda i, n, epsilon: (n - i) * epsilon / n,
    "adam_step": adam_in_other_words,
    "one_query_batches": whole_pool,
}


@pytest.mark.parametrize("check", ALTERNATIVES)
def test_another_correct_solution_passes(check, capsys):
    getattr(checks, check)(ALTERNATIVES[check])
    assert capsys.readouterr().out == "✓ correct\n"


def in_place(phi, thetas, epsilon):
    phi += epsilon * (torch.stack(thetas).mean(0) - phi)
    return phi


def one_after_the_other(phi, thetas, epsilon):
    for theta in thetas:
        phi = phi + epsilon * (theta - phi)
    return phi


def shared_drawings(classes, drawings, ways, shots, queries):
    both = torch.randperm(drawings)[: shots + queries].expand(ways, -1)
    return torch.randperm(classes)[:ways], both[:, :shots], both[:, shots:]


def with_replacement(classes, drawings, ways, shots, queries):
    both = torch.randint(drawings, (ways, shots + queries))
    return torch.randperm(classes)[:ways], both[:, :shots], both[:, shots:]


def repeated_classes(classes, drawings, ways, shots, queries):
    return torch.randint(classes, (ways,)), *sample_alternative(classes, drawings, ways, shots, queries)[1:]


def always_the_first(classes, drawings, ways, shots, queries):
    return torch.arange(ways), *sample_alternative(classes, drawings, ways, shots, queries)[1:]


def adam_with_old_v(theta, g, v, t, alpha):
    return theta - alpha * g / ((v / (1 - 0.999**t)).sqrt() + 1e-8), 0.999 * v + 0.001 * g**2


def adam_without_correction(theta, g, v, t, alpha):
    v = 0.999 * v + 0.001 * g**2
    return theta - alpha * g / (v.sqrt() + 1e-8), v


def adam_in_place(theta, g, v, t, alpha):
    v.mul_(0.999).add_(0.001 * g**2)
    return theta - alpha * g / ((v / (1 - 0.999**t)).sqrt() + 1e-8), v


WRONG = [
    ("outer_step", lambda p, ts, e: p - e * (torch.stack(ts).mean(0) - p), "land on the mean"),
    ("outer_step", lambda p, ts, e: p + e * (ts[0] - p), "2 task\\(s\\) phi must land on the mean"),
    ("outer_step", lambda p, ts, e: p + e * (sum(ts) - p), "must land on the mean"),
    ("outer_step", lambda p, ts, e: p, "with epsilon = 1"),
    ("outer_step", lambda p, ts, e: e * torch.stack(ts).mean(0), "must stay where it is"),
    ("outer_step", in_place, "phi itself has changed"),
    ("outer_step", one_after_the_other, "must land on the mean"),
    ("outer_step", lambda p, ts, e: p + e * (torch.stack(ts).mean() - p), "must land on the mean"),
    ("outer_gradient", lambda p, ts: torch.stack(ts).mean(0) - p, "the sign is wrong"),
    ("outer_gradient", lambda p, ts: len(ts) * p - sum(ts), "2 task\\(s\\)"),
    ("outer_gradient", lambda p, ts: (p - torch.stack(ts).mean(0)).sign(), "is not phi"),
    ("outer_gradient", lambda p, ts: (p - torch.stack(ts).mean(0)).square().sum(), "shape of phi"),
    ("interval", lambda scores: (scores.mean(), 1.96 * scores.std()), "shrinks as there are more tasks"),
    ("interval", lambda scores: (scores.mean(), scores.std() / len(scores) ** 0.5), "one standard error"),
    ("interval", lambda scores: (scores.mean(), 2 * 1.96 * scores.std() / len(scores) ** 0.5), "whole width"),
    ("interval", lambda scores: (scores.median(), 1.96 * scores.std() / len(scores) ** 0.5), "mean of the scores"),
    ("interval", lambda scores: (scores.mean(), 1.96 * scores.std() / len(scores)), "half-width should be"),
    ("interval", lambda scores: scores.mean(), "return two numbers"),
    ("sample_task", with_replacement, "a drawing (is in the support and in the query set|occurs twice)"),
    ("sample_task", repeated_classes, "a class occurs twice in one task"),
    ("sample_task", shared_drawings, "all classes of a task have the same drawings"),
    ("sample_task", always_the_first, "some classes never occur"),
    ("sample_task", lambda c, d, w, s, q: sample_alternative(c, d, w, q, s), "the shapes should be"),
    ("sample_task", lambda c, d, w, s, q: sample_alternative(w, d, w, s, q), "some classes never occur"),
    ("rotated_classes", lambda x: torch.cat([torch.rot90(x, k, (0, 1)) for k in range(4)]), "raised RuntimeError"),
    ("rotated_classes", lambda images: torch.cat([images.flip(2), images, images, images]), "images as they are"),
    ("rotated_classes", lambda x: torch.cat([x, x.flip(2), x.flip(2, 3), x.flip(3)]), "quarter turns"),
    ("rotated_classes", lambda x: torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)], 1), "\\[12, 2, 5, 5\\]"),
    (
        "rotated_classes",
        lambda images: torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)], 1).flatten(0, 1),
        "(images as they are|followed by its own rotations)",
    ),
    ("task_accuracy", lambda logits, labels: (logits.argmax(1) == labels).float().mean(1), "raised RuntimeError"),
    ("task_accuracy", lambda logits, labels: (logits.argmax(-1) == labels).float().mean(), "result should be \\[3\\]"),
    ("task_accuracy", lambda logits, labels: (logits.argmax(-1) == labels).sum(-1), "the shares are wrong"),
    ("task_accuracy", lambda logits, labels: (logits.argmin(-1) == labels).float().mean(-1), "the shares are wrong"),
    ("annealed", lambda i, n, epsilon: epsilon * i / n, "the first meta-iteration"),
    ("annealed", lambda i, n, epsilon: epsilon * (1 - i / (n - 1)), "the last meta-iteration"),
    ("annealed", lambda i, n, epsilon: epsilon, "not on the line"),
    ("annealed", lambda i, n, epsilon: 1 - i / n, "the whole epsilon, 0.25"),
    ("annealed", lambda i, n, epsilon: epsilon * 0.99**i, "not on the line"),
    ("adam_step", adam_with_old_v, "with the new v"),
    ("adam_step", adam_without_correction, "divided by 1 − 0.999"),
    ("adam_step", adam_in_place, "has changed"),
    ("adam_step", lambda theta, g, v, t, alpha: theta - alpha * g, "return the new theta and the new v"),
    ("adam_step", lambda theta, g, v, t, alpha: (theta, 0.9 * v + 0.1 * g**2), "second moment should be"),
    ("one_query_batches", lambda support, query: torch.cat([support, query]), "the shape should be"),
    ("one_query_batches", lambda s, q: whole_pool(s, q).flip(1), "begin with the whole support set"),
    ("one_query_batches", lambda s, q: whole_pool(s, q[:1].expand_as(q)), "row 1 should end with query 1"),
]  # fmt: skip


@pytest.mark.parametrize("check, solution, message", WRONG)
def test_a_wrong_solution_is_told_what_is_missing(check, solution, message, capsys):
    import re

    getattr(checks, check)(solution)
    out = capsys.readouterr().out
    assert out.startswith("✗ not yet: ") and re.search(message, out), out
