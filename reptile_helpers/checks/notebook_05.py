"""Checks for the exercises of notebook 05."""

import torch

from reptile_helpers.checks.exercise import exercise, require


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
