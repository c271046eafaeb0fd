"""Tasks: each has a small data set to learn from (the support set), and another to be tested on (the query set)."""

from typing import NamedTuple

import torch
from torch import Tensor

from reptile_helpers.arguments import require_whole


class TaskBatch(NamedTuple):
    """A whole meta-batch of tasks, stacked along the first dimension.

    support_x, query_x: float, [tasks, examples, *input shape].
    support_y, query_y: class labels, int64 [tasks, examples], or real targets, float [tasks, examples, 1].
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


class SineTasks:
    """Sine waves y = a · sin(x + b), amplitude a from U[0.1, 5], phase b from U[0, 2π] (paper, section 6.1 of v3).

    The support set has `shots` points with x from U[−5, 5]. The query set is the whole wave on `queries` evenly spaced
    points of the same interval, so that the error on it is an error over the wave and not over the training points.
    """

    def __init__(self, shots: int = 10, queries: int = 50):
        require_whole(shots=shots, queries=queries)
        self.shots, self.queries = shots, queries

    def sample(self, tasks: int, generator: torch.Generator) -> TaskBatch:
        """A TaskBatch of `tasks` new waves, inputs [tasks, examples, 1], on the generator's device."""
        require_whole(tasks=tasks)

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)

        amplitude, phase = uniform(0.1, 5.0, tasks, 1, 1), uniform(0.0, 2 * torch.pi, tasks, 1, 1)
        support_x = uniform(-5.0, 5.0, tasks, self.shots, 1)
        query_x = torch.linspace(-5.0, 5.0, self.queries, device=generator.device).view(1, -1, 1).repeat(tasks, 1, 1)
        return TaskBatch(
            support_x, amplitude * torch.sin(support_x + phase), query_x, amplitude * torch.sin(query_x + phase)
        )


class FewShotTasks:
    """N-way K-shot tasks: tell `ways` classes apart after seeing `shots` drawings of each.

    images: uint8 [class, drawing, height, width], paper 255 and ink 0. Pass only the classes that may occur:
    training tasks from training classes, test tasks from test classes.
    Classes and drawings are sampled without replacement, so that no task holds one class under two labels, and no
    drawing is in the support and the query set of one task.
    """

    def __init__(self, images: Tensor, ways: int, shots: int, queries: int = 1):
        require_whole(ways=ways, shots=shots, queries=queries)
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4:
            given = f"{images.dtype} {list(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"images is {given}; it must be a uint8 tensor [class, drawing, height, width]")
        classes, drawings = images.shape[:2]
        if ways > classes:
            raise ValueError(f"{ways} ways were asked for, but there are only {classes} classes")
        if shots + queries > drawings:
            raise ValueError(
                f"{shots} shots and {queries} queries were asked for, but a class has only {drawings} drawings"
            )
        self.images, self.ways, self.shots, self.queries = images, ways, shots, queries

    def sample_indices(self, tasks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which images the next tasks consist of: classes [tasks, ways], drawings [tasks, ways, shots + queries]."""
        require_whole(tasks=tasks)
        if torch.empty(0, device=generator.device).device != self.images.device:  # a generator on "cuda" has no index
            raise ValueError(
                f"the generator is on {generator.device}, the images are on {self.images.device}; "
                "both must be on the same device"
            )
        classes, drawings = self.images.shape[:2]

        def distinct(*shape, count):
            # The positions of the `count` largest of independent random numbers: a sample without replacement.
            return torch.rand(shape, generator=generator, device=generator.device).topk(count).indices

        return (
            distinct(tasks, classes, count=self.ways),
            distinct(tasks, self.ways, drawings, count=self.shots + self.queries),
        )

    def sample(self, tasks: int, generator: torch.Generator) -> TaskBatch:
        """A TaskBatch of `tasks` new tasks, images [tasks, examples, 1, height, width] in [0, 1].

        Examples are ordered by label. The labels 0 … ways − 1 are assigned at random in every task.
        """
        classes, drawings = self.sample_indices(tasks, generator)
        images = self.images[classes[:, :, None], drawings].to(torch.get_default_dtype()) / 255
        labels = torch.arange(self.ways, device=images.device).view(1, -1, 1).expand(tasks, -1, images.shape[2])
        sets = []
        for part in (slice(None, self.shots), slice(self.shots, None)):
            sets += [images[:, :, part].flatten(1, 2).unsqueeze(2), labels[:, :, part].flatten(1)]
        return TaskBatch(*sets)
