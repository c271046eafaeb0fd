"""Checks for the exercises: each tries the learner's function on random cases, and says what is missing."""

import math
import os
import tempfile
from functools import wraps
from pathlib import Path

import torch
from torch.nn import functional as F


class NotAttempted(Exception):
    pass


def exercise(check):
    """Turn a check that raises into one that prints, so that Run All goes on past an exercise that is not solved."""

    @wraps(check)
    def run(function):
        def attempt(*args):
            result = function(*args)
            if result is None:
                raise NotAttempted
            return result

        try:
            with torch.random.fork_rng():
                check(attempt)
        except NotAttempted:
            print("… not attempted yet: the function returns nothing")
        except AssertionError as problem:
            print(f"✗ not yet: {problem}")
        except Exception as problem:
            print(f"✗ not yet: your function raised {type(problem).__name__}: {problem}")
        else:
            print("✓ correct")

    return run


def require(condition, message):
    if not condition:
        raise AssertionError(message)


def close(result, expected):
    """Are both tensors (or numbers) of the same shape and equal to 1e-6?"""
    result, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (result, expected))
    return result.shape == expected.shape and torch.allclose(result, expected, rtol=1e-6, atol=1e-9)


def random_weights(tasks):
    shape = torch.randint(2, 5, (2,)).tolist()
    return torch.randn(shape, dtype=torch.float64), list(torch.randn([tasks, *shape], dtype=torch.float64))


@exercise
def outer_step(f):
    for tasks in (1, 2, 5):
        phi, thetas = random_weights(tasks)
        before = phi.clone()
        result = f(phi, thetas, 0.25)
        require(torch.equal(phi, before), "phi itself has changed; return a new tensor instead")
        require(
            isinstance(result, torch.Tensor) and result.shape == phi.shape, "the new phi must have the shape of phi"
        )
        require(close(f(phi, thetas, 0.0), phi), "with epsilon = 0 phi must stay where it is")
        require(
            close(f(phi, thetas, 1.0), sum(thetas) / tasks),
            f"with epsilon = 1 and {tasks} task(s) phi must land on the mean of the thetas",
        )
        require(
            close(result, 0.75 * phi + 0.25 * sum(thetas) / tasks),
            "with epsilon = 0.25 phi must go a quarter of the way",
        )


@exercise
def outer_gradient(f):
    for tasks in (1, 2, 5):
        phi, thetas = random_weights(tasks)
        g = f(phi, thetas)
        require(isinstance(g, torch.Tensor) and g.shape == phi.shape, "the gradient must have the shape of phi")
        mean = sum(thetas) / tasks
        require(not close(-g, phi - mean), "the sign is wrong: an optimizer moves *against* the gradient")
        for epsilon in (0.1, 1.0):
            require(
                close(phi - epsilon * g, phi + epsilon * (mean - phi)),
                f"with {tasks} task(s), phi − {epsilon} · g is not phi + {epsilon} · (mean of the thetas − phi)",
            )


@exercise
def interval(f):
    for count in (5, 25, 400):
        scores = 3 + 2 * torch.randn(count, dtype=torch.float64)
        result = f(scores)
        require(
            isinstance(result, tuple | list) and len(result) == 2, "return two numbers, the mean and the half-width"
        )
        mean, half = result
        require(close(mean, scores.mean()), "the first number must be the mean of the scores")
        deviation = scores.std().item()
        require(
            not close(half, 1.96 * deviation),
            "that is the spread of single scores; the interval of the *mean* shrinks as there are more tasks",
        )
        require(
            not close(half, 2 * 1.96 * deviation / count**0.5), "that is the whole width; the half-width is asked for"
        )
        require(
            not close(half, deviation / count**0.5), "that is one standard error; a 95 % interval takes 1.96 of them"
        )
        biased = scores.std(correction=0).item()
        require(
            close(half, 1.96 * deviation / count**0.5) or close(half, 1.96 * biased / count**0.5),
            f"for {count} scores the half-width should be 1.96 · standard deviation / √{count}",
        )


@exercise
def sample_task(f):
    which_seen, support_seen = set(), set()
    for classes, drawings, ways, shots, queries in [(5, 6, 5, 4, 2), (12, 20, 3, 1, 2), (9, 4, 4, 2, 1)] * 20:
        which, support, query = f(classes, drawings, ways, shots, queries)
        shapes = [list(torch.as_tensor(t).shape) for t in (which, support, query)]
        require(
            shapes == [[ways], [ways, shots], [ways, queries]],
            f"with {ways} ways, {shots} shots and {queries} queries the shapes should be [{ways}], [{ways}, {shots}] "
            f"and [{ways}, {queries}], not {', '.join(map(str, shapes))}",
        )
        require(len(set(which.tolist())) == ways, f"a class occurs twice in one task: {which.tolist()}")
        for s, q in zip(support.tolist(), query.tolist(), strict=True):
            require(not set(s) & set(q), f"a drawing is in the support and in the query set: {s} and {q}")
            require(len(set(s + q)) == shots + queries, f"a drawing occurs twice in one set: {s} and {q}")
            require(0 <= min(s + q) and max(s + q) < drawings, f"there are drawings 0 … {drawings - 1}, not {s + q}")
        require(
            0 <= which.min() and which.max() < classes, f"there are classes 0 … {classes - 1}, not {which.tolist()}"
        )
        if classes == 12:
            which_seen.update(which.tolist())
            support_seen.update(map(tuple, support.tolist()))
            require(len(set(map(tuple, torch.cat([support, query], 1).tolist()))) > 1 or ways == 1,
                    "all classes of a task have the same drawings; draw them for each class")  # fmt: skip
    require(len(which_seen) > 10, "some classes never occur; every class should be as likely as any other")
    require(
        len(support_seen) > 14, "some drawings never occur in the support set; each should be as likely as any other"
    )


@exercise
def rotated_classes(f):
    images = torch.randint(256, (3, 2, 5, 5), dtype=torch.uint8)
    result = f(images)
    require(list(result.shape) == [12, 2, 5, 5], f"3 classes should become [12, 2, 5, 5], not {list(result.shape)}")
    require(torch.equal(result[:3], images), "the first classes should be the images as they are")
    require(
        not torch.equal(result[:4], torch.stack([torch.rot90(images[0], k, (-2, -1)) for k in range(4)])),
        "first all classes as they are, then all turned; here each class is followed by its own rotations",
    )
    require(torch.equal(result[6:9], images.flip(2, 3)), "turning by 180 degrees should come third")
    counterclockwise = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
    clockwise = torch.cat([torch.rot90(images, -k, (2, 3)) for k in range(4)])
    require(torch.equal(result, counterclockwise) or torch.equal(result, clockwise), "the quarter turns are not right")


@exercise
def task_accuracy(f):
    for tasks, queries, ways in ((3, 7, 5), (2, 4, 6), (5, 5, 5)):
        logits, labels = torch.randn(tasks, queries, ways), torch.randint(ways, (tasks, queries))
        result = f(logits, labels)
        require(
            list(result.shape) == [tasks], f"for {tasks} tasks the result should be [{tasks}], not {list(result.shape)}"
        )
        expected = torch.zeros(tasks)
        for task in range(tasks):
            for query in range(queries):
                right = logits[task, query].tolist().index(max(logits[task, query].tolist())) == labels[task, query]
                expected[task] += right / queries
        require(
            torch.allclose(result.float(), expected),
            f"with {queries} queries and {ways} ways the shares are wrong: is the argmax over the ways?",
        )


@exercise
def annealed(f):
    for n, epsilon in ((10, 1.0), (2000, 0.25)):
        require(
            close(f(0, n, epsilon), epsilon),
            f"the first meta-iteration (i = 0) should have the whole epsilon, {epsilon}",
        )
        require(
            not close(f(n - 1, n, epsilon), 0),
            "the last meta-iteration (i = n − 1) would do nothing; zero belongs to i = n",
        )
        for i in (1, n // 2, n - 1):
            require(
                close(f(i, n, epsilon), epsilon - epsilon * i / n),
                f"the step size for i = {i} of {n} is not on the line",
            )


@exercise
def adam_step(f):
    for t in (1, 2, 1000):
        theta, g = torch.randn(2, 3, 4, dtype=torch.float64)
        v = torch.rand(3, 4, dtype=torch.float64) if t > 1 else torch.zeros(3, 4, dtype=torch.float64)
        before = theta.clone(), g.clone(), v.clone()
        result = f(theta, g, v, t, 0.01)
        require(isinstance(result, tuple | list) and len(result) == 2, "return the new theta and the new v")
        require(
            all(torch.equal(a, b) for a, b in zip((theta, g, v), before, strict=True)),
            "a tensor that was given has changed; return new ones",
        )
        new_v = 0.999 * v + 0.001 * g**2
        require(close(result[1], new_v), "the second moment should be 0.999 · v + 0.001 · g²")
        require(not close(result[0], theta - 0.01 * g / (new_v.sqrt() + 1e-8)), "v has not been divided by 1 − 0.999^t")
        expected = theta - 0.01 * g / ((new_v / (1 - 0.999**t)).sqrt() + 1e-8)
        require(
            close(result[0], expected),
            f"in step t = {t} theta is not θ − α · g / (√(v / (1 − 0.999^t)) + 1e-8), with the new v",
        )


@exercise
def one_query_batches(f):
    for support, queries in ((5, 5), (3, 4)):
        support_x, query_x = torch.rand(support, 1, 6, 6), torch.rand(queries, 1, 6, 6)
        result = f(support_x, query_x)
        shape = [queries, support + 1, 1, 6, 6]
        require(
            list(result.shape) == shape,
            f"with {support} support images, {queries} queries the shape should be {shape}, not {list(result.shape)}",
        )
        for q in range(queries):
            require(torch.equal(result[q, :-1], support_x), "each row should begin with the whole support set")
            require(
                torch.equal(result[q, -1], query_x[q]), f"row {q} should end with query {q}, and hold no other query"
            )


@exercise
def linear_tasks(f):
    for tasks, examples, inputs, outputs in ((3, 4, 2, 5), (2, 2, 2, 2), (1, 6, 3, 1)):
        x, weight = torch.randn(tasks, examples, inputs), torch.randn(tasks, outputs, inputs)
        bias = torch.randn(tasks, outputs)
        result = f(x, weight, bias)
        shape = [tasks, examples, outputs]
        require(list(result.shape) == shape, f"the result should be {shape}, not {list(result.shape)}")
        expected = torch.stack([F.linear(x[t], weight[t], bias[t]) for t in range(tasks)])
        without_bias = expected - bias[:, None]
        require(not torch.allclose(result, without_bias, atol=1e-5), "the bias is missing")
        require(
            torch.allclose(result, expected, atol=1e-5), "some task did not get its own weight: compare with F.linear"
        )


@exercise
def conv_tasks(f):
    for tasks, examples, channels, filters in ((3, 4, 2, 5), (2, 2, 2, 2), (1, 6, 3, 1)):
        x, weight = torch.randn(tasks, examples, channels, 6, 7), torch.randn(tasks, filters, channels, 3, 3)
        bias = torch.randn(tasks, filters)
        result = f(x, weight, bias)
        shape = [tasks, examples, filters, 6, 7]
        require(list(result.shape) == shape, f"the result should be {shape}, not {list(result.shape)}")
        expected = torch.stack([F.conv2d(x[t], weight[t], bias[t], padding=1) for t in range(tasks)])
        require(not torch.allclose(result, expected - bias[:, None, :, None, None], atol=1e-4), "the bias is missing")
        require(
            torch.allclose(result, expected, atol=1e-4),
            f"with {tasks} tasks of {examples} examples the shape is right, but not the numbers: "
            "are tasks and examples swapped with transpose, not reshape?",
        )


@exercise
def loss_tasks(f):
    for tasks, examples, ways in ((3, 4, 5), (1, 5, 2)):
        logits = torch.randn(tasks, examples, ways, dtype=torch.float64, requires_grad=True)
        y = torch.randint(ways, (tasks, examples))
        loss = f(logits, y)
        require(
            isinstance(loss, torch.Tensor) and loss.dim() == 0 and loss.requires_grad,
            "return one number that backward() can start from: a tensor without dimensions",
        )
        (g,) = torch.autograd.grad(loss, logits)
        for t in range(tasks):
            alone = logits[t].detach().requires_grad_()
            (own,) = torch.autograd.grad(F.cross_entropy(alone, y[t]), alone)
            require(
                tasks == 1 or not close(tasks * g[t], own),
                f"every gradient is {tasks} times too small: that is the mean over the {tasks} tasks, not their sum",
            )
            require(
                not close(g[t], examples * own),
                f"every gradient is {examples} times too large: a task's loss is the mean over its examples",
            )
            require(close(g[t], own), f"the gradient of task {t} is not that of its own mean cross-entropy")


@exercise
def batch_norm(f):
    for examples, n, channels in ((6, 5, 3), (4, 4, 2), (7, 2, 1)):
        x = 3 + 2 * torch.randn(examples, channels, 4, 5, dtype=torch.float64)
        gamma, beta = torch.randn(2, channels, dtype=torch.float64)
        result = f(x, n, gamma, beta)
        require(result.shape == x.shape, f"the shape should stay {list(x.shape)}, not {list(result.shape)}")

        def expected(of, correction=0, eps=1e-3, x=x, gamma=gamma, beta=beta):
            variance, mean = torch.var_mean(of, (0, 2, 3), correction=correction, keepdim=True)
            return (x - mean) / (variance + eps).sqrt() * gamma[:, None, None] + beta[:, None, None]

        require(n == examples or not close(result, expected(x)), "only the first n examples should give the statistics")
        require(not close(result, expected(x[:n], correction=1)), "the variance should divide by the number of values")
        require(not close(result, expected(x[:n], eps=0)), "eps is missing under the root")
        require(close(result, expected(x[:n])), "that is not γ · (x − μ) / √(σ² + ε) + β, channel by channel")


@exercise
def paired(f):
    for count in (10, 300):
        a = torch.randn(count, dtype=torch.float64)
        b = a + 0.5 + 0.1 * torch.randn(count, dtype=torch.float64)
        result = f(a, b)
        require(
            isinstance(result, tuple | list) and len(result) == 2, "return two numbers, the mean and the half-width"
        )
        require(not close(-result[0], (a - b).mean()), "the sign is wrong: a positive number means that a is better")
        require(close(result[0], (a - b).mean()), "the first number should be the mean of a − b")
        apart = 1.96 * ((a.var() + b.var()) / count).sqrt()
        require(not close(result[1], apart), "that treats a and b as measured on different tasks; use the differences")
        half = 1.96 * (a - b).std() / count**0.5
        require(
            close(result[1], half) or close(result[1], 1.96 * (a - b).std(correction=0) / count**0.5),
            "the half-width should be 1.96 standard errors of the differences",
        )


@exercise
def with_query(f):
    for n, channels in ((5, 3), (25, 2), (1, 1)):
        images = torch.randn(n + 1, channels, 6, 6, dtype=torch.float64) + torch.randn(n + 1, channels, 1, 1).double()
        var_s, mean_s = torch.var_mean(images[:n], (0, 2, 3), correction=0)
        var_q, mean_q = torch.var_mean(images[n:], (0, 2, 3), correction=0)
        result = f(mean_s, var_s, n, mean_q, var_q)
        require(isinstance(result, tuple | list) and len(result) == 2, "return two tensors, the mean and the variance")
        variance, mean = torch.var_mean(images, (0, 2, 3), correction=0)
        require(
            n == 1 or not close(result[0], (mean_s + mean_q) / 2), f"the support set has {n} images, the query is one"
        )
        require(close(result[0], mean), "the mean should be the weighted mean over n + 1 images")
        require(
            not close(result[1], (n * var_s + var_q) / (n + 1)),
            "a mean of variances forgets that support set and query have different means",
        )
        require(close(result[1], variance), "that is not the variance of the n + 1 images; is it E[x²] − μ²?")


@exercise
def needed_tasks(f):
    for spread, half in ((7.0, 0.5), (0.3, 0.01), (20.0, 3.0)):
        n, expected = f(spread, half), math.ceil((1.96 * spread / half) ** 2)
        require(n == int(n), f"{n} is not a whole number of tasks")
        require(n != math.ceil((spread / half) ** 2), "that is for one standard error; a 95 % interval takes 1.96")
        require(n != math.ceil(1.96 * spread / half), "the half-width shrinks with the root of n: is a square missing?")
        require(
            1.96 * spread / n**0.5 <= half, f"with {n} tasks the half-width is {1.96 * spread / n**0.5:.4f}, not {half}"
        )
        require(n == expected, f"{n} is enough for a half-width of {half}, but {expected} is, too")


@exercise
def write_atomically(f):
    def failing(file):
        file.write(b"half of the new")
        file.flush()
        raise OSError("disk full")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.bin")
        for content in (b"old", b"new"):
            f(path, lambda file, content=content: file.write(content))
            require(
                path.exists() and path.read_bytes() == content, "after a write that went well, path is not the new file"
            )
            require(os.listdir(folder) == ["state.bin"], f"something is left in the folder: {os.listdir(folder)}")
        try:
            f(path, failing)
        except OSError:
            failed = True
        else:
            failed = False
        require(path.exists(), "write failed, and now even the old file is gone")
        require(
            path.read_bytes() == b"new", f"write failed, and path holds {path.read_bytes()} instead of the old bytes"
        )
        require(failed, "write failed, but the caller was not told")

        def look(file):
            require(path.read_bytes() == b"new", "while write is at work, path should still hold the old bytes")
            file.write(b"newest")

        f(path, look)


@exercise
def running_mean(f):
    phis = torch.randn(6, 3, 2, dtype=torch.float64)
    mean = phis[0].clone()
    for n in range(2, 7):
        before, phi = mean.clone(), phis[n - 1].clone()
        result = f(mean, phi, n)
        require(torch.equal(mean, before) and torch.equal(phi, phis[n - 1]), "a tensor that was given has changed")
        require(
            n == 2 or not close(result, (before + phi) / 2),
            "old mean and new tensor should not count the same: n − 1 to 1",
        )
        require(not close(result, before + (phi - before) / (n + 1)), "n counts the new tensor already")
        require(close(result, phis[:n].mean(0)), f"that is not the mean of the {n} tensors")
        mean = result


@exercise
def steps_needed(f):
    for alpha, length, rest in ((0.1, 2.0, 0.01), (0.2, 0.7, 0.1), (0.05, 1.3, 0.5)):
        k, left = f(alpha, length, rest), 1 - alpha * length**2
        require(k == int(k), f"{k} is not a whole number of steps")
        wrong = math.ceil(math.log(rest) / math.log(1 - alpha * length))
        require(k != wrong, "the share left after a step is 1 − α |a|², with the square of the length")
        require(left**k <= rest, f"after {k} steps {left**k:.3f} of the distance is left, more than {rest}")
        require(
            left ** (k - 1) > rest, f"{k} steps are more than needed: after {k - 1} only {left ** (k - 1):.3f} is left"
        )


@exercise
def nearest_point(f):
    for tasks, weights in ((5, 2), (9, 4), (20, 3)):
        A, b = torch.randn(tasks, weights, dtype=torch.float64), torch.randn(tasks, dtype=torch.float64)
        A *= 0.3 + 3 * torch.rand(tasks, 1, dtype=torch.float64)
        point, length = f(A, b), A.norm(dim=1)
        require(list(point.shape) == [weights], f"the point should have the shape [{weights}], not {list(point.shape)}")
        joint = torch.linalg.solve(A.T @ A, A.T @ b)
        require(not close(point, joint), "that minimizes the mean loss: it is joint training; divide a and b by |a|")
        unit = A / length[:, None]
        slip = torch.linalg.solve(unit.T @ unit, unit.T @ b)
        require(not close(point, slip), "a is divided by |a|, b is not: that moves the lines")
        expected = torch.linalg.solve(unit.T @ unit, unit.T @ (b / length))
        require(close(point, expected), "there is a point with a smaller mean squared distance to the lines")


@exercise
def gradient_through_theta(f):
    for weights in (2, 5):
        M, phi = torch.randn(weights, weights, dtype=torch.float64), torch.randn(weights, dtype=torch.float64)

        def loss(w, M=M):
            return (M @ w).cos().sum() + (w**4).sum() / 4

        alpha, before = 0.1, phi.clone()
        g = torch.func.grad(loss)(phi)
        H = torch.func.jacrev(torch.func.grad(loss))(phi)
        result = f(loss, phi, alpha)
        require(torch.equal(phi, before), "phi itself has changed; return the gradient instead")
        require(not close(result, alpha * g), "that is φ − θ: θ was held constant, and not differentiated")
        require(not close(result, alpha * H @ g), "one factor α is missing: θ − φ has it, and its derivative too")
        require(not close(result, 2 * alpha**2 * H @ g), "that is twice as large: mind the ½")
        require(close(result, alpha**2 * H @ g), "that is not the gradient through θ, α² H ∇L")


@exercise
def l1_outer_step(f):
    for tasks, weights in ((1, 3), (4, 2), (5, 6)):
        phi, thetas = torch.randn(weights, dtype=torch.float64), torch.randn(tasks, weights, dtype=torch.float64)
        before, result = phi.clone(), f(phi, thetas, 0.25)
        require(torch.equal(phi, before), "phi itself has changed; return a new tensor instead")
        require(list(result.shape) == [weights], f"the new phi should be [{weights}], not {list(result.shape)}")
        step = (phi - thetas).sign().mean(0)
        require(
            not close(result, phi + 0.25 * (thetas.mean(0) - phi)),
            "that is the step for the squared distance; take signs",
        )
        require(not close(result, phi + 0.25 * step), "the sign is wrong: the distance would grow")
        require(
            tasks == 1 or not close(result, phi - 0.25 * (phi - thetas.mean(0)).sign()),
            "first the sign for each task, then the mean over the tasks; not the other way round",
        )
        require(close(result, phi - 0.25 * step), "that is not φ − ε · mean of sign(φ − θ)")


@exercise
def reptile_gradient(f):
    for k, alpha in ((1, 0.1), (4, 0.02)):
        phi, gradients = torch.randn(5, dtype=torch.float64), torch.randn(k, 5, dtype=torch.float64)
        theta = phi - alpha * gradients.sum(0)
        result = f(phi, theta, alpha)
        require(not close(-result, gradients.sum(0)), "the sign is wrong: the steps went *against* the gradients")
        require(not close(result, phi - theta), "that is α times the sum: divide by the rate")
        require(k == 1 or not close(result, gradients.mean(0)), "that is the mean of the gradients, not their sum")
        require(close(result, gradients.sum(0)), "that is not the sum of the inner gradients")


@exercise
def expected_coefficients(f):
    for shares in ([1.0], [0.0, 1.0], [1.0, 1.0], [0.25] * 4, [0.5, -1.0, 2.0, 0.0, 3.0]):
        result = f(shares)
        require(isinstance(result, tuple | list) and len(result) == 2, "return two numbers")
        first, second = sum(shares), -sum(i * share for i, share in enumerate(shares))
        require(
            close(result[0], first), f"for {shares} AvgGrad should have the coefficient {first:g}, not {result[0]:g}"
        )
        require(second == 0 or not close(result[1], -second), "AvgGradInner's sign is wrong: its products come with −α")
        require(
            close(result[1], second),
            f"for {shares} AvgGradInner / α should have {second:g}, not {result[1]:g}: g₁ holds no product, g₂ one, …",
        )


@exercise
def hessian_vector(f):
    for weights in (2, 5):
        M = torch.randn(weights, weights, dtype=torch.float64)
        w, v = torch.randn(2, weights, dtype=torch.float64)

        def loss(w, M=M):
            return (M @ w).cos().sum() + (w**4).sum() / 4

        H = torch.func.jacrev(torch.func.grad(loss))(w)
        result = f(loss, w, v)
        require(
            isinstance(result, torch.Tensor) and list(result.shape) == [weights],
            f"H v should be a tensor [{weights}]; a Hessian has more, a scalar product less",
        )
        require(not close(result, torch.func.grad(loss)(w) * v), "that is the gradient times v, not the Hessian")
        require(not close(result, H @ w), "that is the Hessian times w, not v")
        require(close(result, H @ v), "that is not the Hessian times v")


# Notebook 10: the wrong line of each program, counted from its `def` as 1. A test compares them with the repairs.
GUILTY = {
    "program_1": 4, "program_2": 4, "program_3": 7, "program_4": 4, "program_5": 10, "program_6": 4, "program_7": 4,
    "program_8": 9, "program_9": 2,
}  # fmt: skip


def guilty(program, line):
    if line is None:
        print("… not attempted yet: set line to a number")
    elif line == GUILTY[program]:
        print(f"✓ line {line} it is")
    else:
        print(f"✗ not yet: line {line} is as it should be")


@exercise
def outer_update(f):
    for epsilon in (0.0, 0.25, 1.0):
        for tasks in ([1.0], [1.0, -2.0, 4.0]):
            model = torch.nn.Linear(3, 2).double()
            phi = [p.detach().clone() for p in model.parameters()]
            began = []

            def practise(network, task, began=began):
                began.append([p.detach().clone() for p in network.parameters()])
                with torch.no_grad():
                    for p in network.parameters():
                        p += task * (1 + p)

            result = f(model, practise, tasks, epsilon)
            require(result is model, "return the model that was given, with its parameters changed")
            require(len(began) == len(tasks), f"practise should be called once for each of the {len(tasks)} tasks")
            require(
                all(close(a, b) for begin in began for a, b in zip(begin, phi, strict=True)),
                "a task did not start from phi: is the network of the task before still in use?",
            )
            mean = sum(tasks) / len(tasks)
            for p, old in zip(model.parameters(), phi, strict=True):
                if epsilon == 0:
                    require(close(p.detach(), old), "with epsilon = 0 the model must stay where it is, and it moved")
                require(
                    close(p.detach(), old + epsilon * mean * (1 + old)),
                    f"with epsilon = {epsilon} and {len(tasks)} task(s) phi is not where it should be",
                )


@exercise
def has_leak(f):
    for ways, shots, queries in ((5, 1, 1), (3, 4, 2)):
        for _ in range(20):
            classes = torch.randperm(30)[:ways]
            both = torch.stack([torch.randperm(20)[: shots + queries] for _ in range(ways)])
            both[1] = both[0]  # the same numbers for two different characters
            support, query = both[:, :shots], both[:, shots:]
            require(
                not f(classes, support, query),
                "a task without a leak is accused: the same number of drawing, but of different characters",
            )
            twice = classes.clone()
            twice[-1] = twice[0]
            require(f(twice, support, query), f"a character under two labels was not noticed: {twice.tolist()}")
            leaking = query.clone()
            leaking[-1, 0] = support[-1, 0]
            require(f(classes, support, leaking), "a drawing in the support and the query set was not noticed")
            if shots > 1:
                repeated = support.clone()
                repeated[0, 1] = repeated[0, 0]
                require(f(classes, repeated, query), "a drawing that is twice in the support set was not noticed")


@exercise
def untouched(f):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    x = torch.randn(4, 2)
    alive, half = model(x).square().mean(), model[0](x).square().mean()
    dead = torch.tensor(alive.item(), requires_grad=False)
    marked = torch.tensor(alive.item(), requires_grad=True) * 2
    names = [name for name, _ in model.named_parameters()]
    for loss, expected in ((alive, []), (half, names[2:]), (dead, names), (marked, names)):
        result = f(loss, model)
        require(isinstance(result, list), "return a list of names")
        require(
            sorted(result) == sorted(expected), f"a loss that leaves {expected or 'nothing'} untouched gave {result}"
        )
        require(all(p.grad is None for p in model.parameters()), "a .grad has changed; use torch.autograd.grad")
    require(alive.grad_fn is not None and f(alive, model) == [], "after the first call the loss cannot be used again")
