"""Take the test yourself: few-shot tasks that a person answers by mouse, finger or number keys."""

import base64
import io
from html import escape
from pathlib import Path

import anywidget
import torch
import traitlets
from PIL import Image
from torch import Tensor

from reptile_helpers.arguments import require_whole
from reptile_helpers.characters import Characters
from reptile_helpers.plots import image_grid, made_from, render
from reptile_helpers.widgets import display_with_still


class Quiz(anywidget.AnyWidget):
    """One-shot tasks, one after the other: which of the classes does the drawing belong to? Made by `quiz`.

    queries: for each task, which of its queries is asked. labels: the right answers. answers: those given so far.
    """

    html = traitlets.Unicode().tag(sync=True)

    _esm = Path(__file__).with_name("quiz.js")
    _css = Path(__file__).with_name("quiz.css")

    def __init__(self, support_x: Tensor, query_x: Tensor, queries: list[int], labels: list[int], note: str):
        super().__init__()
        self.queries, self.labels, self.answers = queries, labels, []
        self._support_x, self._query_x, self._note = support_x, query_x, note
        self.on_msg(lambda _, content, buffers: content["task"] == len(self.answers) and self.answer(content["label"]))
        self._draw()

    @property
    def correct(self) -> list[bool]:
        """For each answer that has been given, whether it is right."""
        return [answer == label for answer, label in zip(self.answers, self.labels, strict=False)]

    @property
    def scores(self) -> Tensor | None:
        """1 for each right answer and 0 for each wrong one, float [tasks]; None until all tasks have been answered."""
        return torch.tensor(self.correct, dtype=torch.float) if len(self.answers) == len(self.labels) else None

    def answer(self, label: int) -> None:
        """Answer the task that is shown, and show the next one."""
        if len(self.answers) < len(self.labels):
            self.answers.append(label)
            self._draw()

    def images(self, task: int) -> list[Tensor]:
        """The drawing in question, then one drawing of each class; each is float [height, width]."""
        return [self._query_x[task, self.queries[task], 0], *self._support_x[task, :, 0]]

    def _draw(self):
        done, count = len(self.answers), len(self.labels)
        told = ""
        if done:
            said, right = self.answers[-1] + 1, self.labels[done - 1] + 1
            told = f"✓ {said} was right." if said == right else f"✗ You said {said}, but it was {right}."
        if done == count:
            told += f" You recognized {sum(self.correct)} of {count}."
            self.html = f'{self._note}<p role="status">{told}</p>'
            return
        query, *support = map(_png, self.images(done))
        buttons = "".join(
            f'<button type="button" data-task="{done}" data-label="{n}" data-key="{n + 1}" aria-label="it is {n + 1}">'
            f'<img src="{image}" alt="" draggable="false">{n + 1}</button>'
            for n, image in enumerate(support)
        )
        self.html = (
            f'{self._note}<p role="status">{told} Task {done + 1} of {count}: to which class does the drawing in the '
            f'blue frame belong? Press its image or its number key.</p><div class="task"><div class="query">'
            f'<img src="{query}" alt="the drawing in question" draggable="false">?</div>{buttons}</div>'
        )


def _png(image: Tensor) -> str:
    """An image with paper 1 and ink 0 as the address of a PNG."""
    file = io.BytesIO()
    Image.fromarray((255 * image).byte().numpy()).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def quiz(
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    tasks: int = 10,
    data: Characters | None = None,
) -> Quiz:
    """Display the first tasks of a TaskBatch as a test for people: `result = quiz(*batch, data=characters)`.

    The batch must have one shot. Of each task one query is asked; which one is random, but the same every time:
    `result.queries`. Nothing has to be answered. `result.correct` says for each answer so far whether it is right, and
    `result.scores` is None until all tasks have been answered. data: what the images are from, as for `plots.show`.
    Raises ValueError if the tasks do not have exactly one example of each class.
    """
    require_whole(tasks=tasks)
    tasks, ways = min(tasks, len(support_x)), support_x.shape[1]
    if not torch.equal(support_y[:tasks].sort(1).values, torch.arange(ways).expand(tasks, -1)):
        raise ValueError("the support sets must have exactly one example of each class")
    support_x = torch.stack([images[labels.argsort()] for images, labels in zip(support_x, support_y, strict=True)])
    queries = torch.randint(query_y.shape[1], (tasks,), generator=torch.Generator().manual_seed(0))
    labels = query_y[torch.arange(tasks), queries]
    note = f"<p><b>{escape(made_from(data))}</b></p>" if made_from(data) else ""
    result = Quiz(support_x, query_x, queries.tolist(), labels.tolist(), note)
    fig = image_grid([result.images(0)], column_labels=["?", *(str(n + 1) for n in range(ways))], size=1.0)
    alt = f"A drawing, and one drawing of each of {ways} classes: to which class does the first one belong?"
    caption = f"The first of {tasks} tasks: to which class does the drawing on the left belong? Run the cell to answer."
    display_with_still(result, render(fig, alt, caption, data))
    return result
