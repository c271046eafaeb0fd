"""Checks for the exercises of notebook 05."""

import torch

from reptile_helpers.checks.exercise import exercise, require


def _sample_task(classes, drawings, ways, shots, queries):
    which = torch.randperm(classes)[:ways]
    both = torch.stack([torch.randperm(drawings)[: shots + queries] for _ in range(ways)])
    return which, both[:, :shots], both[:, shots:]


def _nearest_mean(support_x, support_y, query_x, ways):
    means = torch.stack([support_x[support_y == n].mean(0) for n in range(ways)])
    return torch.cdist(query_x, means).argmin(1)


@exercise(reference=_sample_task)
def sample_task(f):
    which_seen, support_seen, smaller_first, support_first = set(), set(), set(), set()
    for classes, drawings, ways, shots, queries in [(5, 6, 5, 4, 2), (12, 20, 3, 1, 2), (9, 4, 4, 2, 1)] * 20:
        result = f(classes, drawings, ways, shots, queries)
        require(isinstance(result, tuple | list) and len(result) == 3, "return three tensors: which, support, query")
        require(
            all(isinstance(t, torch.Tensor) and t.dtype == torch.int64 for t in result),
            "which, support and query should be int64 tensors, so that they can be used as indices",
        )
        which, support, query = result
        shapes = [list(t.shape) for t in (which, support, query)]
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
            smaller_first.add(bool(which[0] < which[1]))
            support_first.update((support.max(1).values < query.min(1).values).tolist())
            require(len(set(map(tuple, torch.cat([support, query], 1).tolist()))) > 1,
                    "all classes of a task have the same drawings; draw them for each class")  # fmt: skip
    require(len(which_seen) > 10, "some classes never occur; every class should be as likely as any other")
    require(
        len(smaller_first) == 2,
        "the classes are always in order, so that the smaller number always gets the smaller label; shuffle them",
    )
    require(
        len(support_first) == 2,
        "the support drawings always have smaller (or always larger) numbers than the query drawings; shuffle before "
        "you split",
    )
    require(
        len(support_seen) > 14, "some drawings never occur in the support set; each should be as likely as any other"
    )


@exercise(reference=_nearest_mean)
def nearest_mean(f):
    for ways, shots, queries in ((2, 1, 3), (5, 4, 6), (4, 3, 9)):
        support_y = torch.arange(ways).repeat(shots)[torch.randperm(ways * shots)]  # in no particular order
        support_x, query_x = torch.rand(ways * shots, 7), torch.rand(queries, 7)
        result = f(support_x, support_y, query_x, ways)
        require(isinstance(result, torch.Tensor), "return a tensor with one label for each query")
        require(
            list(result.shape) == [queries],
            f"for {queries} queries return [{queries}] labels, not {list(result.shape)}",
        )
        require(result.dtype == torch.int64, f"labels should be int64, not {result.dtype}")
        distances = torch.cdist(query_x, support_x)
        expected = _nearest_mean(support_x, support_y, query_x, ways)
        nearest = support_y[distances.argmin(1)]
        summed = torch.stack([distances[:, support_y == n].mean(1) for n in range(ways)], 1).argmin(1)
        if not torch.equal(result, expected):
            in_order = support_x.view(ways, shots, -1).mean(1)
            require(not torch.equal(result, nearest), "that is the nearest single drawing; average each class first")
            require(
                not torch.equal(result, summed),
                "that averages the distances; average the drawings first, then compute one distance per class",
            )
            require(
                not torch.equal(result, torch.cdist(query_x, in_order).argmin(1)),
                "the support set is not sorted by label here; use support_y to find the drawings of a class",
            )
            require(False, "these are not the labels of the closest mean drawings")


@exercise
def task_accuracy(f):
    for tasks, queries, ways in ((5, 5, 5), (3, 7, 5), (2, 4, 6)):  # square: a wrong argmax fits there
        logits, labels = torch.randn(tasks, queries, ways), torch.randint(ways, (tasks, queries))
        labels[:, 0] = logits[:, 0].argmax(-1)  # at least one is right, and so the share is not zero
        result = f(logits, labels)
        require(isinstance(result, torch.Tensor), f"return a tensor, not a {type(result).__name__}")
        require(
            list(result.shape) == [tasks], f"for {tasks} tasks the result should be [{tasks}], not {list(result.shape)}"
        )
        expected = torch.zeros(tasks)
        for task in range(tasks):
            for query in range(queries):
                right = logits[task, query].tolist().index(max(logits[task, query].tolist())) == labels[task, query]
                expected[task] += right / queries
        for wrong, message in (
            (100 * expected, "return shares between 0 and 1, not per cent"),
            (queries * expected, "return shares, not counts: divide by the number of queries"),
            (1 - expected, "this is the share of wrong predictions"),
            (queries / ways * expected, "divide by the number of queries, not by the number of ways"),
        ):
            same = torch.allclose(wrong, expected)
            require(same or not torch.allclose(result.float(), wrong), message)
        require(
            torch.allclose(result.float(), expected),
            f"with {queries} queries and {ways} ways the shares are wrong: is the argmax over the ways?",
        )
