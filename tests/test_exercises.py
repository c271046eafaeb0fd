"""Each exercise: its solution and another correct one pass, plausible wrong ones are told what is missing."""

import ast
import copy
import difflib
import io
import json
import math
import os
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path

import nbformat
import pytest
import torch
from torch.nn import functional as F

from reptile_helpers import checks
from reptile_helpers.checks.exercise import close, exercise, require

IMPORTS = (ast.Import, ast.ImportFrom)
NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell, "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]


def check_of(source):
    """The name of the check that a cell ends with, as in `checks.name(f)` or `f = checks.name(f)`; None without one."""
    match ast.parse(source).body:
        case [*_, ast.Expr(value=call) | ast.Assign(value=call)]:
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="checks"), attr=name)):
                    return name


def exercises():
    """(stub, solution, imports of the notebook) of each exercise: the solution may stand anywhere in the notebook."""
    for path in NOTEBOOKS:
        cells = code_cells(path)
        imports = [node for _, source in cells for node in ast.parse(source).body if isinstance(node, IMPORTS)]
        imports = "\n".join(ast.unparse(node) for node in imports)
        solved = {check_of(source): source for cell, source in cells if is_solution(cell)}
        stubs = {check_of(source): source for cell, source in cells if "# your code here" in source}
        for check in solved | stubs:
            values = stubs.get(check, "no stub"), solved.get(check, "no solution"), imports
            yield pytest.param(*values, id=f"{path.stem[:2]}-{check}")


def is_solution(cell):
    return "solution" in cell["metadata"].get("tags", ())


def run(source, capsys, imports=""):
    space = {"torch": torch, "F": F, "math": math, "os": os, "copy": copy, "grad": torch.func.grad, "checks": checks}
    exec(imports, space)
    exec(source, space)
    return capsys.readouterr().out


@pytest.mark.parametrize("stub, solution, imports", list(exercises()))
def test_stub_and_solution(stub, solution, imports, capsys):
    assert run(stub, capsys, imports).startswith("… not attempted yet")
    assert run(solution, capsys, imports).startswith("✓ correct")
    signatures = [
        ast.dump(node.args) for s in (stub, solution) for node in ast.parse(s).body if isinstance(node, ast.FunctionDef)
    ]
    assert len(signatures) == 2 and signatures[0] == signatures[1]


def test_each_notebook_has_three_exercises():
    for path in NOTEBOOKS:
        assert sum(is_solution(cell) for cell, _ in code_cells(path)) >= 3, path.name


def test_each_check_is_tried_here():
    used = {param.id[3:] for param in exercises()}
    assert used == set(ALTERNATIVES) == {check for check, _, _ in WRONG}
    assert all(sum(check == name for name, _, _ in WRONG) >= 3 for check in used)


def test_every_check_is_found_once():
    names = [name for name in checks.__all__ if name.islower()]
    assert len(names) == len({*names}) and {*ALTERNATIVES} <= {*names}
    assert all(getattr(checks, name).__module__.startswith("reptile_helpers.checks.notebook_") for name in names)


@pytest.mark.parametrize("name", [name for name in checks.__all__ if getattr(getattr(checks, name), "reference", None)])
def test_what_a_notebook_continues_with_passes_its_own_check(name, capsys):
    check = getattr(checks, name)
    check(check.reference)
    assert capsys.readouterr().out.startswith("✓")


@exercise
def doubled(f):
    """A check as in checks/notebook_NN.py."""
    x = torch.randn(3)
    require(close(f(x), 2 * x), "every number should be doubled")


@exercise(reference=torch.add)
def heart(f):
    require(f(1, 2) == 3, "1 and 2 should make 3")


def stub(x):
    """A docstring."""
    # your code here


def with_a_gap(x):
    y = ...  # your code here
    return y


def without_return(x):
    2 * x


def with_an_error(x):
    x = x[5:]
    return x.nonsense


@pytest.mark.parametrize(
    "function, message",
    [
        (stub, "… not attempted yet: "),
        (with_a_gap, "… not attempted yet: "),
        (without_return, "✗ not yet: your function returns None: is a `return` missing?"),
        (lambda x: 3 * x, "✗ not yet: every number should be doubled"),
        (lambda x: "3", "✗ not yet: the check could not use what your function returned (TypeError: "),
        (lambda: 3, "✗ not yet: your function raised TypeError: <lambda>() takes 0 positional arguments but 1"),
        (lambda x: 2 * x, "✓ correct\n"),
    ],
)
def test_a_check_says_what_it_found(function, message, capsys):
    assert doubled(function) is None
    assert capsys.readouterr().out.startswith(message)


def test_an_error_is_told_with_its_line(capsys):
    doubled(with_an_error)
    line = with_an_error.__code__.co_firstlineno + 2
    assert f"has no attribute 'nonsense' (line {line}: `return x.nonsense`)" in capsys.readouterr().out


def test_the_heart_of_a_notebook_is_the_readers_function_if_it_is_correct(capsys):
    def mine(a, b):
        return b + a

    assert heart(mine) is mine
    assert capsys.readouterr().out == "✓ correct. The notebook continues with your function.\n"
    for wrong, verdict in ((stub, "… not attempted yet"), (max, "✗ not yet: 1 and 2 should make 3")):
        assert heart(wrong) is torch.add
        out = capsys.readouterr().out
        assert out.startswith(verdict) and out.endswith(". The notebook continues with the module's own version.\n")


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


def loop_nearest_mean(support_x, support_y, query_x, ways):
    means = [sum(support_x[i] for i in range(len(support_y)) if support_y[i] == n) for n in range(ways)]
    means = [m / (support_y == n).sum() for n, m in enumerate(means)]
    return torch.tensor([min(range(ways), key=lambda n: (query - means[n]).norm().item()) for query in query_x])


def whole_pool(support_x, query_x):
    return torch.cat([support_x.expand(len(query_x), *support_x.shape), query_x[:, None]], 1)


def adam_in_other_words(theta, g, v, t, alpha):
    v = torch.lerp(v, g * g, 0.001)
    return theta - alpha * g / (v.sqrt() / (1 - 0.999**t) ** 0.5 + 1e-8), v


def batch_norm_alternative(x, n, gamma, beta, eps=1e-3):
    first = x[:n].transpose(0, 1).flatten(1)
    return F.batch_norm(x, first.mean(1), first.var(1, correction=0), gamma, beta, eps=eps)


def with_query_alternative(mean_s, var_s, n, mean_q, var_q):
    share = 1 / (n + 1)
    return torch.lerp(mean_s, mean_q, share), torch.lerp(var_s, var_q, share) + share * (1 - share) * (
        mean_q - mean_s
    ) ** 2


def atomic_alternative(path, write):
    buffer = io.BytesIO()
    write(buffer)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(buffer.getvalue())
    Path(file.name).replace(path)
    return path


def snapshot_in_a_file(model, optimizer, generator, iteration):
    file = io.BytesIO()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
    torch.save(state | {"iteration": iteration}, file)
    file.seek(0)
    return torch.load(file)


def count_steps(alpha, length, rest):
    left, k = 1.0, 0
    while left > rest:
        left, k = left * (1 - alpha * length**2), k + 1
    return k


def mean_over_many_phases(x):
    phases = torch.linspace(0, torch.pi, 2001, dtype=torch.float64)
    return 2.55 * torch.sin(x[..., None] + phases).mean(-1)


def inner_loop_in_one_tensor(phi, gradient, k, alpha):
    path = phi.repeat(k + 1, *[1] * phi.dim())
    for i in range(k):
        path[i + 1] = path[i] - alpha * gradient(path[i])
    return path


def restoring_outer_update(model, practise, tasks, epsilon):
    phi, ends = copy.deepcopy(model.state_dict()), []
    for task in tasks:
        practise(model, task)
        ends.append(copy.deepcopy(model.state_dict()))
        model.load_state_dict(phi)
    model.load_state_dict({n: p + epsilon * (sum(end[n] for end in ends) / len(ends) - p) for n, p in phi.items()})
    return model


def untouched_by_backward(loss, model):
    model = dict(model.named_parameters())
    if not loss.requires_grad:
        return list(model)
    loss.backward(retain_graph=True)
    names = [name for name, p in model.items() if p.grad is None]
    for p in model.values():
        p.grad = None
    return names


def sure_and_right(p, y, low, high, chosen=lambda sure, low, high: (sure >= low) & (sure < high)):
    sure, answer = p.amax(-1), p.argmax(-1)
    return (answer == y)[chosen(sure, low, high)].double().mean(), sure[chosen(sure, low, high)].double().mean()


def endless_distance(points, a, b):
    dx, dy = b - a
    return ((points[:, 0] - a[0]) * dy - (points[:, 1] - a[1]) * dx).abs() / (b - a).norm()


def vmapped_conv(x, weight, bias, stride, padding):
    x = x.unflatten(1, (len(weight), -1)).transpose(0, 1)
    y = torch.vmap(partial(F.conv2d, stride=stride, padding=padding))(x, weight, bias)
    return y.transpose(0, 1).flatten(1, 2)


def looped_conv(x, weight, bias, stride, padding):
    parts = x.unflatten(1, (len(weight), -1)).unbind(1)
    return torch.cat([F.conv2d(*task, stride, padding) for task in zip(parts, weight, bias, strict=True)], 1)


def grouped_conv(x, weight, bias, stride, padding):
    return F.conv2d(x, weight.flatten(0, 1), bias.flatten(), stride, padding, groups=len(weight))


def mixes_tasks_by_gradient(program, weights, x):
    for t in range(len(x)):
        inputs = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(program(weights, inputs)[t].sin().sum(), inputs)
        if any(g[other].abs().max() > 0 for other in range(len(x)) if other != t):
            return True
    return False


def mixes_task_0(program, weights, x):
    changed = x.clone()
    changed[0] += 1
    return not torch.equal(program(weights, changed)[1:], program(weights, x)[1:])


def clip_one_by_one(gradients, limit):
    clipped = {name: g.clone() for name, g in gradients.items()}
    for parts in zip(*clipped.values(), strict=True):
        norm = torch.cat([part.flatten() for part in parts]).norm()
        if norm > limit:
            for part in parts:
                part.mul_(limit / norm)
    return clipped


def clip_together(gradients, limit):
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
    return {name: g * min(1, limit / norm) for name, g in gradients.items()}


def clip_each_tensor(gradients, limit):
    return {name: torch.stack([part * min(1, limit / part.norm()) for part in g]) for name, g in gradients.items()}


def clip_always(gradients, limit):
    norms = [torch.cat([g[t].flatten() for g in gradients.values()]).norm() for t in range(len(gradients["0.bias"]))]
    return {
        name: torch.stack([limit * part / norm for part, norm in zip(g, norms, strict=True)])
        for name, g in gradients.items()
    }


def clip_in_place(gradients, limit):
    for name, g in clip_one_by_one(gradients, limit).items():
        gradients[name].copy_(g)
    return gradients


def maml_by_autograd(loss, phi, batches, alpha):
    start = w = phi.clone().requires_grad_()
    for batch in batches[:-1]:
        (g,) = torch.autograd.grad(loss(w, batch), w, create_graph=True)
        w = w - alpha * g
    return torch.autograd.grad(loss(w, batches[-1]), start)[0]


def inner_loop(loss, phi, batches, alpha):
    gradients = []
    for batch in batches:
        gradients.append(torch.func.grad(loss)(phi, batch))
        phi = phi - alpha * gradients[-1]
    return gradients


def maml_in_place(loss, phi, batches, alpha):
    result = maml_by_autograd(loss, phi, batches, alpha)
    phi -= alpha * result
    return result


def hessian_vector_by_backward(loss, w, v):
    w = w.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    (g * v).sum().backward()
    return w.grad


def hessian_vector_by_rows(loss, w, v):
    w = w.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    return torch.stack([torch.autograd.grad(entry, w, retain_graph=True)[0] @ v for entry in g])


ALTERNATIVES = {
    "outer_step": torch.lerp,
    "best_without_adapting": mean_over_many_phases,
    "inner_loop": inner_loop_in_one_tensor,
    "outer_gradient": lambda phi, thetas: sum(phi - theta for theta in thetas) / len(thetas),
    "interval": lambda scores: (scores.mean().item(), 1.96 * (scores.var() / scores.numel()).sqrt().item()),
    "sample_task": sample_alternative,
    "nearest_mean": loop_nearest_mean,
    "task_accuracy": loop_accuracy,
    "annealed": lambda i, n, epsilon: (n - i) * epsilon / n,
    "adam_step": adam_in_other_words,
    "one_query_batches": whole_pool,
    "conv_tasks": vmapped_conv,
    "mixes_tasks": mixes_tasks_by_gradient,
    "clip_tasks": clip_one_by_one,
    "outer_update": restoring_outer_update,
    "has_leak": lambda c, s, q: (
        len({*c.tolist()}) < len(c) or bool((torch.cat([s, q], 1).sort(1).values.diff() == 0).any())
    ),
    "untouched": untouched_by_backward,
    "maml": maml_by_autograd,
    "shares_for": lambda k, first, second: [first + second, -second] + [0.0] * (k - 2),
    "hessian_vector": hessian_vector_by_backward,
    "steps_needed": count_steps,
    "nearest_point": lambda A, b: torch.linalg.pinv(A / A.norm(dim=1, keepdim=True)) @ (b / A.norm(dim=1)),
    "l1_outer_step": lambda phi, thetas, e: (
        phi + e * sum((t > phi).double() - (t < phi).double() for t in thetas) / len(thetas)
    ),
    "needed_tasks": lambda spread, half: -int(-((1.96 * spread) ** 2) // half**2),
    "write_atomically": atomic_alternative,
    "running_mean": lambda mean, phi, n: ((n - 1) * mean + phi) / n,
    "batch_norm": batch_norm_alternative,
    "paired": lambda a, b: ((a - b).mean(), 1.96 * ((a - b).var() / a.numel()).sqrt()),
    "with_query": with_query_alternative,
    "batches_needed": lambda momentum, share: math.ceil(math.log(share) / math.log(1 - momentum) - 1e-9),
    "snapshot": snapshot_in_a_file,
    "meta_iteration_time": lambda t, tasks, n, cores, r: r + t * -(-tasks // n) * (n / cores if n > cores else 1),
    "combine_means": lambda means, counts: torch.cat(
        [mean.expand(count, *mean.shape) for mean, count in zip(means, counts, strict=True)]
    ).mean(0),
    "right_when_sure": lambda p, y, low, high: [float(number) for number in sure_and_right(p, y, low, high)],
    "distance_to_line": lambda p, a, b: torch.stack(
        [(a + max(0.0, min(1.0, ((q - a) @ (b - a) / (b - a).square().sum()).item())) * (b - a) - q).norm() for q in p]
    ),
    "with_none": lambda p, t: torch.where(p.amax(-1) >= t, p.argmax(-1), torch.tensor(-1)),
}


@pytest.mark.parametrize("check", ALTERNATIVES)
def test_another_correct_solution_passes(check, capsys):
    getattr(checks, check)(ALTERNATIVES[check])
    assert capsys.readouterr().out.startswith("✓ correct")


def aliased_outer_update(model, practise, tasks, epsilon):
    phi, ends = [p.data for p in model.parameters()], []
    for task in tasks:
        learner = copy.copy(model) if len(tasks) == 1 else copy.deepcopy(model)
        practise(learner, task)
        ends.append([p.data for p in learner.parameters()])
    for p, old, *new in zip(model.parameters(), phi, *ends, strict=True):
        p.data.copy_(old + epsilon * (sum(new) / len(new) - old))
    return model


def sequential_outer_update(model, practise, tasks, epsilon):
    phi, ends = copy.deepcopy(model.state_dict()), []
    for task in tasks:
        practise(model, task)
        ends.append(copy.deepcopy(model.state_dict()))
    model.load_state_dict({n: p + epsilon * (sum(end[n] for end in ends) / len(ends) - p) for n, p in phi.items()})
    return model


def gradients(loss, model):
    if not loss.requires_grad:
        return [(n, torch.zeros(())) for n, _ in model.named_parameters()]
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return zip(names, found, strict=True)


def untouched_and_dirty(loss, model):
    if not loss.requires_grad:
        return [name for name, _ in model.named_parameters()]
    loss.backward(retain_graph=True)
    return [name for name, p in model.named_parameters() if p.grad is None]


def write_directly(path, write):
    with open(path, "wb") as file:
        write(file)
    return path


def write_and_remove(path, write):
    try:
        return write_directly(path, write)
    except OSError:
        path.unlink()
        raise


def write_a_copy(path, write):
    path.write_bytes(write_directly(path.with_suffix(".new"), write).read_bytes())
    return path


def write_silently(path, write):
    try:
        return atomic_alternative(path, write)
    except OSError:
        return path


def write_from_memory(path, write):
    buffer = io.BytesIO()
    write(buffer)
    path.write_bytes(buffer.getvalue())
    return path


def write_and_copy(path, write):
    other = path.with_suffix(".new")
    try:
        write_directly(other, write)
        shutil.copy(other, path)
    finally:
        other.unlink()
    return path


def write_elsewhere(path, write):
    with tempfile.TemporaryDirectory() as folder:
        shutil.move(write_directly(Path(folder, "new"), write), path)
    return path


def write_with_a_gap(path, write):
    other = write_directly(path.with_suffix(".new"), write)
    path.unlink(missing_ok=True)
    return other.rename(path)


def write_unflushed(path, write):
    with open(path.with_suffix(".new"), "wb") as file:
        write(file)
        os.replace(file.name, path)
    return path


def live_snapshot(model, optimizer, generator, iteration):
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return state | {"generator": generator.get_state(), "iteration": iteration}


def changed_snapshot(**changes):
    return lambda *run: snapshot_in_a_file(*run) | {key: change(*run) for key, change in changes.items()}


def unbiased_batch_norm(x, n, gamma, beta):
    first = x[:n].transpose(0, 1).flatten(1)
    return F.batch_norm(x, first.mean(1), first.var(1), gamma, beta, eps=1e-3)


def in_place(phi, theta, epsilon):
    phi += epsilon * (theta - phi)
    return phi


def theta_in_place(phi, theta, epsilon):
    return phi + theta.sub_(phi).mul_(epsilon)


def gradients_in_place(phi, thetas):
    for theta in thetas[1:]:
        thetas[0].add_(theta)
    return phi - thetas[0] / len(thetas)


def one_step_too_many_on_the_boundary(alpha, length, rest):
    return int(math.log(rest) / math.log(1 - alpha * length**2)) + 1


def inner_loop_at_phi(phi, gradient, k, alpha):
    return torch.stack([phi - i * alpha * gradient(phi) for i in range(k + 1)])


def inner_loop_with_momentum(phi, gradient, k, alpha):
    path, step = [phi], 0
    for _ in range(k):
        step = 0.5 * step - alpha * gradient(path[-1])
        path.append(path[-1] + step)
    return torch.stack(path)


def inner_loop_in_place(phi, gradient, k, alpha):
    path = [phi]
    for _ in range(k):
        phi -= alpha * gradient(phi)
        path.append(phi)
    return torch.stack(path)


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


def classes_in_order(classes, drawings, ways, shots, queries):
    which, *rest = sample_alternative(classes, drawings, ways, shots, queries)
    return which.sort().values, *rest


def drawings_in_order(classes, drawings, ways, shots, queries):
    which, *rest = sample_alternative(classes, drawings, ways, shots, queries)
    both = torch.cat(rest, 1).sort(1).values
    return which, both[:, :shots], both[:, shots:]


def mean_distance(support_x, support_y, query_x, ways):
    distances = torch.cdist(query_x, support_x)
    return torch.stack([distances[:, support_y == n].mean(1) for n in range(ways)], 1).argmin(1)


def adam_variant(theta, g, v, t, alpha, inside, outside):
    v = 0.999 * v + 0.001 * g**2
    return theta - alpha * g / ((v / (1 - 0.999**t) + inside).sqrt() + outside), v


def adam_with_old_v(theta, g, v, t, alpha):
    return theta - alpha * g / ((v / (1 - 0.999**t)).sqrt() + 1e-8), 0.999 * v + 0.001 * g**2


def adam_without_correction(theta, g, v, t, alpha):
    v = 0.999 * v + 0.001 * g**2
    return theta - alpha * g / (v.sqrt() + 1e-8), v


def adam_in_place(theta, g, v, t, alpha):
    v.mul_(0.999).add_(0.001 * g**2)
    return theta - alpha * g / ((v / (1 - 0.999**t)).sqrt() + 1e-8), v


WRONG = [
    ("right_when_sure", lambda p, y, a, b: sure_and_right(p, y, a, b)[0], "return two numbers"),
    ("right_when_sure", lambda p, y, a, b: sure_and_right(p, y, a, b)[::-1], "comes first"),
    ("right_when_sure", lambda p, y, a, b: [100 * number for number in sure_and_right(p, y, a, b)], "in percent"),
    ("right_when_sure", lambda *q: sure_and_right(*q, lambda s, a, b: (s >= a) & (s <= b)), "`high` does not count"),
    ("right_when_sure", lambda *q: sure_and_right(*q, lambda s, a, b: (s > a) & (s < b)), "`low` counts"),
    ("right_when_sure", lambda *q: sure_and_right(*q, lambda s, a, b: s >= a), "not the share of right answers"),
    (
        "right_when_sure",
        lambda p, y, a, b: (((p.argmax(-1) == y) & (p.amax(-1) >= a) & (p.amax(-1) < b)).double().mean(), 0),
        "divide by the number of queries that count",
    ),
    (
        "right_when_sure",
        lambda p, y, a, b: (
            sure_and_right(p, y, a, b)[0],
            p.gather(-1, y[..., None])[..., 0][(p.amax(-1) >= a) & (p.amax(-1) < b)].double().mean(),
        ),
        "not that of the right label",
    ),
    ("right_when_sure", lambda p, y, a, b: (sure_and_right(p, y, a, b)[0], 0.5), "not the mean probability"),
    ("distance_to_line", lambda p, a, b: endless_distance(p, a, b), "does not go on forever"),
    ("distance_to_line", lambda p, a, b: torch.minimum((p - a).norm(dim=1), (p - b).norm(dim=1)), "nearer end"),
    ("distance_to_line", lambda p, a, b: (p - a).norm(dim=1), "not the distance from the line"),
    ("distance_to_line", lambda p, a, b: (p - (a + b) / 2).norm(), "shape should be"),
    ("with_none", lambda p, t: p.argmax(-1), "should be −1"),
    ("with_none", lambda p, t: torch.where(p.amax(-1) > t, -1, p.argmax(-1)), "most probable label"),
    ("with_none", lambda p, t: torch.where(p.amax(-1) < t + 0.1, -1, p.argmax(-1)), "most probable|too many"),
    ("with_none", lambda p, t: torch.where(p < t, -1, p), "shape should be"),
    ("with_none", lambda p, t: torch.where(p.amax(-1) <= t, -1, p.argmax(-1)), "at the threshold itself"),
    ("with_none", lambda p, t: torch.where(p.amax(-1) < t, -1, p.argmax(-1)).int(), "labels are int64"),
    ("outer_step", lambda p, t, e: p - e * (t - p), "moves away from θ"),
    ("outer_step", lambda p, t, e: e * p + (1 - e) * t, "yours is near θ"),
    ("outer_step", lambda p, t, e: p + e * t, "with epsilon = 0 the result must be φ|with epsilon = 1"),
    ("outer_step", lambda p, t, e: p + e * t - p, "with epsilon = 0 the result must be φ"),
    ("outer_step", lambda p, t, e: e * (t - p), "add it to φ"),
    ("outer_step", lambda p, t, e: p, "with epsilon = 1 the result must be θ"),
    ("outer_step", lambda p, t, e: p + e**2 * (t - p), "25 % of the way"),
    ("outer_step", lambda p, t, e: (p + e * (t - p)).mean(), "shaped like phi"),
    ("outer_step", in_place, "phi itself has changed"),
    ("outer_step", theta_in_place, "theta itself has changed"),
    ("best_without_adapting", torch.zeros_like, "do not cancel"),
    ("best_without_adapting", lambda x: 2.55 * torch.sin(x), "the mean phase is not 0"),
    ("best_without_adapting", lambda x: 2 / math.pi * torch.cos(x), "the amplitude is missing"),
    ("best_without_adapting", lambda x: 5 / math.pi * torch.cos(x), "0.1 and 5 is 2.55"),
    ("best_without_adapting", lambda x: 2.55 * torch.sin(x + math.pi / 2), "flatter than each of them"),
    ("best_without_adapting", lambda x: -5.1 / math.pi * torch.cos(x), "the sign is wrong"),
    ("best_without_adapting", lambda x: 5.1 * torch.cos(x), "not the mean of a"),
    ("best_without_adapting", lambda x: 5.1 / math.pi, "shape of x"),
    ("outer_gradient", lambda p, ts: torch.stack(ts).mean(0) - p, "the sign is wrong"),
    ("outer_gradient", lambda p, ts: len(ts) * p - sum(ts), "the sum over the 2 tasks"),
    ("outer_gradient", lambda p, ts: p - ts[0], "2 task\\(s\\)"),
    ("outer_gradient", gradients_in_place, "thetas themselves"),
    ("outer_gradient", lambda p, ts: (p - torch.stack(ts).mean(0)).sign(), "is not φ"),
    ("outer_gradient", lambda p, ts: (p - torch.stack(ts).mean(0)).square().sum(), "shape of phi"),
    ("interval", lambda scores: (scores.mean(), 1.96 * scores.std()), "shrinks as there are more tasks"),
    ("interval", lambda scores: (scores.mean(), scores.std() / len(scores) ** 0.5), "one standard error"),
    ("interval", lambda scores: (scores.mean(), 2 * 1.96 * scores.std() / len(scores) ** 0.5), "full width"),
    ("interval", lambda scores: (scores.median(), 1.96 * scores.std() / len(scores) ** 0.5), "mean of the scores"),
    ("interval", lambda scores: (scores.mean(), 1.96 * scores.std() / len(scores)), "half-width should be"),
    ("interval", lambda scores: scores.mean(), "return two numbers"),
    ("sample_task", with_replacement, "a drawing (is in the support and in the query set|occurs twice)"),
    ("sample_task", repeated_classes, "a class occurs twice in one task"),
    ("sample_task", shared_drawings, "all classes of a task have the same drawings"),
    ("sample_task", always_the_first, "some classes never occur"),
    ("sample_task", lambda c, d, w, s, q: sample_alternative(c, d, w, q, s), "the shapes should be"),
    ("sample_task", lambda c, d, w, s, q: sample_alternative(w, d, w, s, q), "some classes never occur"),
    ("sample_task", classes_in_order, "always in order"),
    ("sample_task", drawings_in_order, "shuffle before you split"),
    ("sample_task", lambda *sizes: [t.float() for t in sample_alternative(*sizes)], "int64 tensors"),
    ("sample_task", lambda *sizes: sample_alternative(*sizes)[:2], "return three tensors"),
    ("nearest_mean", lambda s, y, q, ways: y[torch.cdist(q, s).argmin(1)], "nearest single drawing"),
    ("nearest_mean", lambda s, y, q, n: torch.cdist(q, s.view(n, -1, 7).mean(1)).argmin(1), "not sorted by label"),
    ("nearest_mean", mean_distance, "averages the distances"),
    ("nearest_mean", lambda s, y, q, ways: torch.cdist(q, s), "return \\[3\\] labels"),
    ("nearest_mean", lambda s, y, q, ways: (loop_nearest_mean(s, y, q, ways) + 1) % ways, "not (the labels|sorted)"),
    ("task_accuracy", lambda logits, labels: (logits.argmax(1) == labels).float().mean(1), "argmax over the ways"),
    ("task_accuracy", lambda logits, labels: (logits.argmax(-1) == labels).float().mean(), "result should be \\[5\\]"),
    ("task_accuracy", lambda logits, labels: (logits.argmax(-1) == labels).sum(-1), "shares, not counts"),
    ("task_accuracy", lambda logits, labels: 100 * loop_accuracy(logits, labels), "not per cent"),
    ("task_accuracy", lambda logits, labels: 1 - loop_accuracy(logits, labels), "share of wrong predictions"),
    ("task_accuracy", lambda logits, labels: loop_accuracy(logits, labels).tolist(), "return a tensor, not a list"),
    ("task_accuracy", lambda logits, labels: (logits.argmin(-1) == labels).float().mean(-1), "the shares are wrong"),
    ("annealed", lambda i, n, epsilon: epsilon * i / n, "the first meta-iteration"),
    ("annealed", lambda i, n, epsilon: epsilon * (1 - i / (n - 1)), "the last meta-iteration"),
    ("annealed", lambda i, n, epsilon: epsilon, "not on the line"),
    ("annealed", lambda i, n, epsilon: 1 - i / n, "the whole epsilon, 0.25"),
    ("annealed", lambda i, n, epsilon: epsilon * 0.99**i, "not on the line"),
    ("adam_step", adam_with_old_v, "with the new v"),
    ("adam_step", adam_without_correction, "divided by 1 − 0.999"),
    ("adam_step", adam_in_place, "has changed"),
    ("adam_step", lambda theta, g, v, t, alpha: adam_variant(theta, g, v, t, alpha, 0, 0), "what is the 1e-8 for"),
    ("adam_step", lambda theta, g, v, t, alpha: adam_variant(theta, g, v, t, alpha, 1e-8, 0), "outside the root"),
    ("adam_step", lambda theta, g, v, t, alpha: theta - alpha * g, "return the new theta and the new v"),
    ("adam_step", lambda theta, g, v, t, alpha: (theta, 0.9 * v + 0.1 * g**2), "second moment should be"),
    ("one_query_batches", lambda support, query: torch.cat([support, query]), "the shape should be"),
    ("one_query_batches", lambda s, q: list(whole_pool(s, q)), "return a tensor, not a list"),
    ("one_query_batches", lambda s, q: whole_pool(s, q).flip(1), "begin with the whole support set"),
    ("one_query_batches", lambda s, q: whole_pool(s, q[:1].expand_as(q)), "row 1 should end with query 1"),
    ("outer_update", aliased_outer_update, "epsilon = 0 the model must stay"),
    ("outer_update", sequential_outer_update, "did not start from phi"),
    ("outer_update", lambda m, practise, tasks, e: restoring_outer_update(m, practise, tasks[:1], e), "once for each"),
    ("outer_update", lambda m, *rest: restoring_outer_update(copy.deepcopy(m), *rest), "the model that was given"),
    ("has_leak", lambda classes, support, query: len(set(classes.tolist())) < len(classes), "support and the query"),
    ("has_leak", lambda classes, support, query: len(set(classes)) < len(classes), "tolist"),
    ("has_leak", lambda c, s, q: any({*a} & {*b} for a, b in zip(s.tolist(), q.tolist(), strict=True)), "two labels"),
    ("has_leak", lambda c, s, q: len({*s.flatten().tolist()}) < s.numel() or len({*c.tolist()}) < len(c), "accused"),
    ("untouched", lambda loss, model: [name for name, p in model.named_parameters() if p.grad is None], "gave"),
    ("untouched", lambda loss, model: [], "gave"),
    ("untouched", untouched_and_dirty, "a .grad has changed"),
    ("untouched", lambda loss, model: [n for n, g in gradients(loss, model) if not g.any()], "zero is connected"),
    ("conv_tasks", lambda x, w, b, s, p: F.conv2d(x, w.flatten(0, 1), None, s, p, groups=len(w)), "bias is missing"),
    ("conv_tasks", lambda x, w, b, s, p: grouped_conv(x, w, b, 1, 0), "stride and padding must be passed on|should be"),
    ("conv_tasks", lambda x, w, b, s, p: grouped_conv(x, w[:1].expand_as(w), b, s, p), "the filters of task 0"),
    ("conv_tasks", lambda x, w, b, s, p: grouped_conv(x, w.flip(-1, -2), b, s, p), "upside down"),
    ("conv_tasks", lambda x, w, b, s, p: grouped_conv(x, w, b.T, s, p), "biases are in the wrong order"),
    (
        "conv_tasks",
        lambda x, w, b, s, p: F.conv2d(x, w.transpose(0, 1).flatten(0, 1), b.flatten(), s, p, groups=len(w)),
        "filters are in the wrong order",
    ),
    ("conv_tasks", looped_conv, "but 3 convolutions were computed for 3 tasks"),
    ("conv_tasks", lambda x, w, b, s, p: F.conv2d(x, w.flatten(0, 1), b.flatten(), s, p), "raised RuntimeError"),
    ("mixes_tasks", mixes_task_0, "adds a thousandth of the last task's output to the first"),
    ("mixes_tasks", lambda program, weights, x: False, "your test does not notice"),
    ("mixes_tasks", lambda program, weights, x: True, "does not mix tasks, but your test says so"),
    ("mixes_tasks", lambda program, weights, x: program(weights, x) == program(weights, x + 1), "True or False"),
    ("clip_tasks", clip_together, "by their common norm"),
    ("clip_tasks", clip_each_tensor, "over all its parameters together"),
    ("clip_tasks", clip_always, "must stay as they are"),
    ("clip_tasks", clip_in_place, "have changed"),
    ("maml", lambda loss, phi, batches, alpha: inner_loop(loss, phi, batches, alpha)[-1], "FOMAML's gradient"),
    ("maml", lambda loss, phi, batches, alpha: sum(inner_loop(loss, phi, batches, alpha)), "Reptile's gradient"),
    ("maml", lambda loss, phi, batches, alpha: torch.func.grad(loss)(phi, batches[-1]), "the steps on the other"),
    ("maml", lambda loss, phi, batches, alpha: -maml_by_autograd(loss, phi, batches, alpha), "the sign is wrong"),
    ("maml", lambda loss, phi, b, a: maml_by_autograd(loss, phi, [*b, b[-1]], a), "also took a step on the last"),
    ("maml", lambda loss, phi, b, a: maml_by_autograd(loss, phi, b[1:] or b, a), "with k = 2|steps on the other"),
    ("maml", maml_in_place, "phi itself has changed"),
    ("shares_for", lambda k, first, second: [first, second] + [0.0] * (k - 2), "add up to|wrong sign"),
    ("shares_for", lambda k, first, second: [first - second, second] + [0.0] * (k - 2), "wrong sign"),
    ("shares_for", lambda k, first, second: [first + second / 2, -second / 2] + [0.0] * (k - 2), "the coefficient"),
    ("shares_for", lambda k, first, second: [first + second, -second], "a list of 4 shares"),
    ("hessian_vector", lambda loss, w, v: torch.func.hessian(loss)(w) @ v, "that is H itself"),
    ("hessian_vector", hessian_vector_by_rows, "row by row"),
    ("hessian_vector", lambda loss, w, v: torch.func.grad(loss)(w) @ v, "should be a tensor"),
    ("hessian_vector", lambda loss, w, v: torch.func.grad(loss)(w) * v, "gradient times v"),
    ("hessian_vector", lambda loss, w, v: torch.func.jacrev(torch.func.grad(loss))(w) @ w, "times w, not times v"),
    ("inner_loop", lambda p, g, k, a: inner_loop_in_one_tensor(p, g, k, -a), "uphill"),
    ("inner_loop", lambda p, g, k, a: inner_loop_in_one_tensor(p, g, k, 1), "alpha is missing"),
    ("inner_loop", lambda p, g, k, a: inner_loop_in_one_tensor(p, g, k, a)[-1], "only one position"),
    ("inner_loop", lambda p, g, k, a: inner_loop_in_one_tensor(p, g, k, a)[1:], "positions: phi, and one after"),
    ("inner_loop", lambda p, g, k, a: inner_loop_in_one_tensor(p, g, k + 1, a), "the shape must be"),
    ("inner_loop", lambda p, g, k, a: inner_loop_in_one_tensor(p, g, k, a).flip(0), "first position must be phi"),
    ("inner_loop", lambda p, g, k, a: list(inner_loop_in_one_tensor(p, g, k, a)), "torch.stack"),
    ("inner_loop", inner_loop_at_phi, "repeats the first one"),
    ("inner_loop", inner_loop_with_momentum, "a later one is not"),
    ("inner_loop", inner_loop_in_place, "phi itself has changed"),
    ("steps_needed", lambda alpha, length, rest: float(count_steps(alpha, length, rest)), "not an int"),
    ("steps_needed", lambda alpha, length, rest: count_steps(alpha, length, rest) - 1, "is left, which is more"),
    ("steps_needed", lambda alpha, length, rest: count_steps(alpha, length, rest) + 1, "more than needed"),
    ("steps_needed", one_step_too_many_on_the_boundary, "leave exactly 0.25 of the distance"),
    ("steps_needed", lambda alpha, length, rest: count_steps(alpha, length**0.5, rest), "square of the length"),
    ("nearest_point", lambda A, b: torch.linalg.pinv(A) @ b, "joint training"),
    ("nearest_point", lambda A, b: torch.linalg.pinv(A / A.norm(dim=1, keepdim=True)) @ b, "but not b"),
    ("nearest_point", lambda A, b: torch.zeros(A.shape[1]).double(), "a smaller mean squared distance"),
    ("l1_outer_step", lambda phi, thetas, e: phi + e * (thetas.mean(0) - phi), "use signs"),
    ("l1_outer_step", lambda phi, thetas, e: phi + e * (phi - thetas).sign().mean(0), "the sign is wrong"),
    ("l1_outer_step", lambda phi, thetas, e: phi - e * (phi - thetas.mean(0)).sign(), "first the sign for each task"),
    ("needed_tasks", lambda spread, half: math.ceil((spread / half) ** 2), "one standard error"),
    ("needed_tasks", lambda spread, half: math.ceil(1.96 * spread / half), "is a square missing"),
    ("needed_tasks", lambda spread, half: (1.96 * spread / half) ** 2, "not a whole number"),
    ("needed_tasks", lambda spread, half: int((1.96 * spread / half) ** 2), "a little more than .*; round up"),
    ("needed_tasks", lambda spread, half: int((1.96 * spread / half) ** 2) + 1, "but 256 are as well"),
    ("write_atomically", write_directly, "instead of the old bytes"),
    ("write_atomically", write_and_remove, "even the old file is gone"),
    ("write_atomically", write_a_copy, "something is left in the folder"),
    ("write_atomically", write_silently, "the caller was not told"),
    ("write_atomically", write_from_memory, "path itself is opened for writing"),
    ("write_atomically", write_and_copy, "path itself is opened for writing"),
    ("write_atomically", write_elsewhere, "in a different folder"),
    ("write_atomically", write_with_a_gap, "path is removed before"),
    ("write_atomically", write_unflushed, "holds only 0 of 3 bytes"),
    ("snapshot", live_snapshot, "the weights in the snapshot went with it"),
    ("snapshot", changed_snapshot(optimizer=lambda m, o, g, i: o.state_dict()), "Adam's step count in the snapshot"),
    ("snapshot", changed_snapshot(optimizer=lambda m, o, g, i: {"state": {}}), "moments and step count are missing"),
    ("snapshot", changed_snapshot(generator=lambda m, o, g, i: g), "the state of the generator, a tensor"),
    ("snapshot", changed_snapshot(iteration=lambda m, o, g, i: i + 1), "should be 5, not 6"),
    ("snapshot", changed_snapshot(generator=lambda m, o, g, i: torch.rand(1, generator=g)), "used up random numbers"),
    ("snapshot", lambda model, *rest: {"model": model.state_dict()}, "'optimizer' and 'generator' and 'iteration'"),
    ("meta_iteration_time", lambda t, tasks, n, cores, r: t * tasks / n + r, "2.50 tasks each cannot be"),
    ("meta_iteration_time", lambda t, tasks, n, cores, r: t * math.ceil(tasks / n) + r, "share the cores"),
    ("meta_iteration_time", lambda t, tasks, n, cores, r: t * math.ceil(tasks / n) * max(1, n / cores), "exchange"),
    ("meta_iteration_time", lambda t, tasks, n, cores, r: t * math.ceil(tasks / n) * n / cores + r, "are idle"),
    ("meta_iteration_time", lambda t, tasks, n, cores, r: t * math.ceil(tasks / n) * max(1, n // cores) + r, "share"),
    ("combine_means", lambda means, counts: sum(means) / len(means), "each task should count the same"),
    ("combine_means", lambda means, counts: sum(c * m for c, m in zip(counts, means, strict=True)), "divide by"),
    ("combine_means", lambda means, counts: means[0], "not the mean over all 5 tasks"),
    ("combine_means", lambda means, counts: means[0].mul_(3).add_(2 * means[-1]).div_(5), "has changed"),
    ("running_mean", lambda mean, phi, n: (mean + phi) / 2, "not the mean|n − 1 to 1"),
    ("running_mean", lambda mean, phi, n: mean + (phi - mean) / (n + 1), "counts the new tensor already"),
    ("running_mean", lambda mean, phi, n: mean.mul_(n - 1).add_(phi).div_(n), "has changed"),
    ("batch_norm", lambda x, n, g, b: batch_norm_alternative(x, len(x), g, b), "only the first n"),
    ("batch_norm", lambda x, n, g, b: batch_norm_alternative(x, n, g, b, eps=0.0), "eps is missing"),
    ("batch_norm", unbiased_batch_norm, "divide by the number of values"),
    ("batch_norm", lambda x, n, g, b: batch_norm_alternative(x, n, torch.ones_like(g), b), "that is not γ"),
    ("batch_norm", lambda x, n, g, b: F.layer_norm(x, x.shape[1:]), "only the first n|that is not γ"),
    ("batches_needed", lambda m, share: math.ceil(math.log(share) / math.log(m)), "1 − momentum, not by momentum"),
    ("batches_needed", lambda m, share: math.log(share) / math.log(1 - m), "not a whole number"),
    ("batches_needed", lambda m, share: int(math.log(share) / math.log(1 - m) + 1e-9) - 1, "are too few"),
    ("batches_needed", lambda m, share: math.ceil(math.log(share) / math.log(1 - m)) + 1, "are as well"),
    ("paired", lambda a, b: (b.mean() - a.mean(), 0.1), "the sign is wrong"),
    ("paired", lambda a, b: (a.mean() - b.mean(), 1.96 * ((a.var() + b.var()) / len(a)) ** 0.5), "on different tasks"),
    ("paired", lambda a, b: ((a - b).mean(), (a - b).std()), "1.96 standard errors"),
    ("with_query", lambda ms, vs, n, mq, vq: ((ms + mq) / 2, (vs + vq) / 2), "5 images, the query is one"),
    ("with_query", lambda ms, vs, n, mq, vq: ((n * ms + mq) / (n + 1), (n * vs + vq) / (n + 1)), "different means"),
    ("with_query", lambda ms, vs, n, mq, vq: ((n * ms + mq) / (n + 1), vs), "not the variance of the n"),
]  # fmt: skip


@pytest.mark.parametrize("check, solution, message", WRONG)
def test_a_wrong_solution_is_told_what_is_missing(check, solution, message, capsys):
    getattr(checks, check)(solution)
    out = capsys.readouterr().out
    assert out.startswith("✗ not yet: ") and re.search(message, out), out


def programs_of_notebook_10():
    """bug → (the lines of its program, the repaired line that the explanation shows)"""
    (path,) = [p for p in NOTEBOOKS if p.name.startswith("10")]
    found, cells = {}, [source for _, source in code_cells(path)]
    for source, below in zip(cells, cells[1:], strict=False):
        if bug := re.search(r"^checks\.guilty\((\d+), line\)", below, re.MULTILINE):
            (program, *_) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
            found[int(bug[1])] = ast.get_source_segment(source, program).splitlines()
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    repairs = {}
    for bug, text in re.findall(r"Explanation of bug (\d+)</summary>(.*?)</details>", prose, re.DOTALL):
        repairs[int(bug)] = re.findall(r"```python\n(.*?)\n```", text)
    return {bug: (program, repairs[bug]) for bug, program in found.items()}


def test_the_guilty_lines_are_those_that_the_repairs_change():
    programs = programs_of_notebook_10()
    assert set(programs) == set(checks.RIDDLES) == set(range(1, 10))
    for bug, (program, repairs) in programs.items():
        riddle = checks.RIDDLES[bug]
        assert len(program) == riddle.length, bug
        assert not set(riddle.guilty) & set(riddle.innocent) and all(1 < n <= riddle.length for n in riddle.innocent)
        planted = next(iter(riddle.guilty))
        if bug == 8:  # repaired in three ways, none of them a single line
            assert program[planted - 1].strip() == "network.eval()"
            continue
        (repaired,) = repairs
        stripped = [line.strip() for line in program]
        assert repaired not in stripped
        assert stripped.index(difflib.get_close_matches(repaired, stripped, 1)[0]) + 1 == planted, bug


@pytest.mark.parametrize("answer", ["4", 4.0, 0, -1, 99, True, [4], "epsilon"])
def test_only_the_number_of_a_line_is_an_answer(answer, capsys):
    checks.guilty(1, answer)
    assert capsys.readouterr().out.startswith("✗ not yet: line should be a whole number from 1 to 8")


def test_each_answer_earns_a_sentence(capsys):
    for bug, riddle in checks.RIDDLES.items():
        checks.guilty(bug, None)
        assert capsys.readouterr().out.startswith("… not attempted yet")
        for line in range(1, riddle.length + 1):
            checks.guilty(bug, line)
            out = capsys.readouterr().out
            assert out.startswith(f"✓ line {line}. " if line in riddle.guilty else "✗ not yet: ")
            assert (riddle.guilty | riddle.innocent).get(line, "") in out
