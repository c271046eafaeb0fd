"""Live views: controls above a picture that is drawn again at every move, and questions to the reader."""

import math
import traceback
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import anywidget
import ipywidgets
import traitlets
from IPython.display import display

from reptile_helpers.plots import RED

_GREEK = {"alpha": "α", "beta": "β", "epsilon": "ε", "phi": "φ", "theta": "θ"}


class Picture(anywidget.AnyWidget):
    """An HTML picture that says where it is touched.

    html: the picture, as in what `plots.render` returns. A new one takes the place of the old one when it is ready, so
    that nothing flickers or jumps.
    pointer: ["down" or "move", x, y, a count] of the mouse, finger or pen: x and y are fractions of the figure's width
    and height from its lower left corner, as in matplotlib's `fig.transFigure`. Only if it is touchable.
    answered: the count of the last pointer event that has been dealt with; no other is sent before.
    """

    html = traitlets.Unicode().tag(sync=True)
    touchable = traitlets.Bool().tag(sync=True)
    pointer = traitlets.List().tag(sync=True)
    answered = traitlets.Int().tag(sync=True)

    _esm = Path(__file__).with_name("picture.js")


def show_errors(function: Callable, error: ipywidgets.HTML) -> Callable:
    """Return `function` as a callback whose errors appear in `error`; Jupyter would hide them.

    If the function returns a text, that appears there instead.
    """

    def callback(change=None):
        try:
            error.value = function(change) or ""
        except Exception:
            error.value = f'<pre style="color: {RED}">{escape(traceback.format_exc())}</pre>'

    return callback


def explore(draw: Callable, touch: Callable | None = None, **controls: ipywidgets.Widget) -> None:
    """Display controls above the picture that `draw` makes of their values, at once and after every change.

    draw: called with the controls' values by name. It returns a figure from `plots.render`, or a sentence.
    touch: called as touch(kind, x, y) where the picture is pressed or dragged over, see `Picture`. It changes controls,
    or what `draw` looks at.
    controls: ipywidgets by name, which is also their label, with α for alpha and so on. A `play_button` is shown with
    them, and is not passed to `draw`.
    What is displayed also holds the first picture by itself. It is what a reader sees without a kernel, as on GitHub.
    An error that comes up later is shown below the picture.
    """
    picture, error, busy = Picture(touchable=touch is not None), ipywidgets.HTML(), False
    asked = {name: control for name, control in controls.items() if not isinstance(control, ipywidgets.Play)}

    def update():
        drawn = draw(**{name: control.value for name, control in asked.items()})
        if isinstance(drawn, str):
            drawn = {"text/html": f"<p>{escape(drawn)}</p>", "text/plain": drawn}
        picture.html = drawn["text/html"]
        return drawn

    def answer(change):
        nonlocal busy
        if busy:  # `touch` moves a control: one picture for all that it does
            return
        busy = True
        try:
            if change["owner"] is picture:
                touch(*picture.pointer[:3])
            update()
        finally:
            busy = False
            if change["owner"] is picture:
                picture.answered = picture.pointer[3]

    still = update()
    for name, control in asked.items():
        control.description = control.description or _label(name)
        control.observe(show_errors(answer, error), "value")
    # All labels and all controls have the same width, so that the tracks of sliders stand in columns.
    label = 1 + max((len(control.description) for control in asked.values()), default=0)
    for control in asked.values():
        control.style.description_width = f"{label}ch"
        control.layout.width = f"calc({label}ch + 230px)"
        control.layout.min_width = narrow = f"calc({label}ch + 130px)"  # else a narrow page leaves no track
    cell = ipywidgets.Layout(width=f"calc({label}ch + 234px)", min_width=narrow if asked else None)
    cells = [ipywidgets.Box([control], layout=cell) for control in controls.values()]
    picture.observe(show_errors(answer, error), "pointer")
    row = ipywidgets.Box(cells, layout=ipywidgets.Layout(flex_flow="row wrap"))
    box = ipywidgets.VBox([row, picture, error])
    box.add_class("explorer")
    display_with_still(box, still)


def _label(name: str) -> str:
    """What stands next to the control of this name: `start_1` is "start 1", `alpha` is "α"."""
    return " ".join(_GREEK.get(word, word) for word in name.split("_"))


def display_with_still(widget: ipywidgets.Widget, still: dict[str, str]) -> None:
    """Display a widget, and in the same output what is shown in its place where there is no kernel."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({**still, "application/vnd.jupyter.widget-view+json": view}, raw=True)


def play_button(slider: ipywidgets.IntSlider, milliseconds: int = 400) -> ipywidgets.Play:
    """Return a button that moves the slider on by itself, one step after the other, up to its end.

    Pass it to `explore` next to the slider: `explore(draw, steps=slider, play=play_button(slider))`.
    """
    limits = {"min": slider.min, "max": slider.max, "step": slider.step}
    play = ipywidgets.Play(value=slider.value, interval=milliseconds, **limits)
    ipywidgets.link((slider, "value"), (play, "value"))
    return play


class Prediction:
    """What the reader expects. value: a number, one of the choices, or None as long as nothing has been entered."""

    def __init__(self, control: ipywidgets.Widget, decimals: int = 0):
        self.value, self.control, self._decimals = None, control, decimals
        control.observe(self._enter, "value")

    def _enter(self, change):
        self.value = change["new"]

    def compare(self, result: float | str, unit: str = "") -> None:
        """Print the prediction next to what was measured. Print nothing if nothing has been entered."""
        if self.value is None:
            return
        guess = self.value if isinstance(self.value, str) else f"{self.value:g}"
        if not isinstance(result, str | int):
            result = f"{float(result):.{self._decimals}f}"
        unit = unit and f" {unit}"
        print(f"Your prediction: {guess}{unit}. Measured: {result}{unit}.")


def predict(
    question: str,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float = 1,
    *,
    choices: Sequence[str] = (),
) -> Prediction:
    """Display a question with a small control for the answer: buttons for `choices`, else a slider for a number.

    Untouched, it changes nothing. `.value` of what is returned is the answer, and `.compare(result)` prints both.
    Raises ValueError unless there are either choices, or a minimum, a larger maximum and a positive step.
    """
    if choices:
        control = ipywidgets.ToggleButtons(options=list(choices), value=None)
        control.style.button_width = "auto"
        prediction, range_ = Prediction(control), " · ".join(choices)
    elif minimum is None or maximum is None or not (minimum < maximum and step > 0):
        raise ValueError("predict needs choices, or a minimum, a larger maximum and a positive step")
    else:
        whole = all(isinstance(number, int) for number in (minimum, maximum, step))
        slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        control = slider(value=minimum, min=minimum, max=maximum, step=step)
        decimals = max(0, 1 - math.floor(math.log10(step)))  # one more than the answer can have
        prediction, range_ = Prediction(control, decimals), f"a number from {minimum:g} to {maximum:g}"
    note = ipywidgets.HTML("no answer yet")

    def confirm(change):
        note.value = "✓ noted"

    control.observe(confirm, "value")
    label = f"<b>Your prediction:</b> {escape(question)}"
    box = ipywidgets.VBox([Picture(html=label), ipywidgets.HBox([control, note])])
    box.add_class("prediction")
    still = {"text/html": f"<p>{label} <i>({escape(range_)})</i></p>", "text/plain": f"{question} ({range_})"}
    display_with_still(box, still)
    return prediction
