"""Checks for the exercises: each tries the learner's function on random cases, and says what is missing."""

from functools import wraps

import torch


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
