"""The drawing board: draw characters by mouse, finger or pen, and see at once which of them a query is taken for."""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import anywidget
import torch
import traitlets
from matplotlib import pyplot as plt

from reptile_helpers.drawings import load_drawings, prepare, save_drawings
from reptile_helpers.plots import BLACK, SKY, our_style, render
from reptile_helpers.widgets import display_with_still


class Board(anywidget.AnyWidget):
    """Pads for one example of each class and for queries, with the probabilities of the classes next to each query.

    answer: called after every stroke as answer(examples, queries). Both are dicts, name → image as the network sees it
    (float [28, 28], paper 1, ink 0), and hold what has been drawn: at least two examples and one query. It returns the
    probabilities [queries, examples], in this order.
    drawings: name → strokes, as in drawings.py, to start with; without them the sample drawings.

    `board.show()` displays it. What Python can read: `drawings`; `probabilities`, query → class → probability;
    `answers`, query → most probable class; `message`, the sentence at the bottom, empty if all is well. Assign to
    `drawings` to draw from Python: the answer is there when the assignment returns.
    """

    examples = traitlets.List(["A", "B", "C", "D", "E"]).tag(sync=True)
    queries = traitlets.List(["query 1", "query 2"]).tag(sync=True)
    drawings = traitlets.Dict().tag(sync=True)
    images = traitlets.Dict().tag(sync=True)  # name → what the network sees, two hexadecimal digits for each pixel
    probabilities = traitlets.Dict().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)
    busy = traitlets.Bool().tag(sync=True)
    file = traitlets.Unicode("my_drawings.json").tag(sync=True)

    _esm = Path(__file__).with_name("board.js")
    _css = Path(__file__).with_name("board.css")

    def __init__(self, answer: Callable, drawings: Mapping[str, list] | None = None):
        super().__init__()
        self._answer = answer
        self._samples = load_drawings() if drawings is None else dict(drawings)
        self.on_msg(self._press)
        self.drawings = self._samples

    @property
    def answers(self) -> dict[str, str]:
        return {query: max(classes, key=classes.get) for query, classes in self.probabilities.items()}

    def show(self) -> None:
        """Display the board. Where there is no kernel, a still picture of it as it is now takes its place."""
        display_with_still(self, self._still())

    def save(self, path: str) -> str:
        """Write the drawings to a file. The sentence that is returned says how it went."""
        if not path.strip():
            return "Enter the name of a file first."
        try:
            save_drawings(path, self.drawings)
        except OSError as error:
            return f"{path} cannot be written: {error.strerror or error}."
        return f"Saved in {path}."

    def load(self, path: str) -> str:
        """Put the drawings of a file onto the pads. The sentence that is returned says how it went."""
        if not path.strip():
            return "Enter the name of a file first."
        try:
            drawings = load_drawings(path)
        except FileNotFoundError:
            return f"There is no file {path}. Save your drawings first."
        except OSError as error:
            return f"{path} cannot be read: {error.strerror or error}."
        except ValueError as error:
            return f"{error}."
        self.drawings = drawings
        return self.message or f"Loaded from {path}."

    def _press(self, _, content, buffers):
        """A button of the board was pressed."""
        if content["do"] == "save":
            self.message = self.save(content["file"])
        elif content["do"] == "load":
            self.message = self.load(content["file"])
        else:
            self.drawings = self._samples if content["do"] == "sample drawings" else {}

    @traitlets.observe("drawings")
    def _update(self, change):
        self.busy = True
        try:
            drawn = {name: prepare(self.drawings.get(name, [])) for name in (*self.examples, *self.queries)}
            self.images = {name: _hexadecimal(image) for name, image in drawn.items()}
            examples, queries = (
                {name: drawn[name] for name in names if self.drawings.get(name)}
                for names in (self.examples, self.queries)
            )
            if len(examples) < 2 or not queries:
                self.probabilities, self.message = {}, "Draw at least two examples and one query."
                return
            rows = self._answer(examples, queries).tolist()
            named = [dict(zip(examples, row, strict=True)) for row in rows]
            self.probabilities, self.message = dict(zip(queries, named, strict=True)), ""
        except Exception:  # Jupyter would hide it
            self.probabilities, self.message = {}, traceback.format_exc()
        finally:
            self.busy = False

    def _still(self):
        """A figure of the board as it is now."""
        pads = [name for name in self.examples for _ in range(2)]
        row = [part for query in self.queries for part in [query] * 2 + [f"bars of {query}"] * 3]
        with our_style():
            fig, axes = plt.subplot_mosaic([pads, row], figsize=(8.4, 3.8))
            for name in (*self.examples, *self.queries):
                for stroke in self.drawings.get(name, []):
                    axes[name].plot(*zip(*stroke, strict=True), color=BLACK, linewidth=3, solid_capstyle="round")
                said = f" is {self.answers[name]}" if name in self.answers else ""
                axes[name].set(title=name + said, xlim=(0, 1), ylim=(1, 0), aspect="equal", xticks=[], yticks=[])
                axes[name].spines[:].set(visible=True, color="gray")
            for query in self.queries:
                classes = self.probabilities.get(query, {})
                colors = [SKY if name == self.answers[query] else "gray" for name in classes]
                axes[f"bars of {query}"].bar(list(classes), list(classes.values()), color=colors)
                axes[f"bars of {query}"].set(ylim=(0, 1), yticks=[0, 1])
        told = [f"{query} is {name} ({self.probabilities[query][name]:.0%})" for query, name in self.answers.items()]
        told = "; ".join(told) or "nothing has been drawn yet"
        alt = f"The drawing board with five characters and two queries: {told}."
        return render(fig, alt, f"The drawing board (run the notebook to draw on it yourself): {told}.")


def _hexadecimal(image: torch.Tensor) -> str:
    return bytes((255 * image).byte().flatten().tolist()).hex()
