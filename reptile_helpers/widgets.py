"""Live pictures: controls above a picture that is drawn again at every move. What it shows is decided in Python."""

import traceback
from html import escape

import anywidget
import ipywidgets
import traitlets
from IPython.display import display

from reptile_helpers.drawings import prepare


class Picture(anywidget.AnyWidget):
    """An HTML picture that says where it is touched.

    html: what `plots.render` made. The new picture takes the place of the old one when it is ready to be seen, so that
    nothing flickers or jumps.
    pointer: ["down" or "move", x, y, a count] of the mouse, finger or pen: x and y are fractions of the figure's width
    and height from its lower left corner, as in matplotlib's `fig.transFigure`. Only if it is touchable.
    answered: the count of the last pointer event that has been dealt with; no other is sent before.
    """

    html = traitlets.Unicode().tag(sync=True)
    touchable = traitlets.Bool().tag(sync=True)
    pointer = traitlets.List().tag(sync=True)
    answered = traitlets.Int().tag(sync=True)

    _esm = """
    function render({ model, el }) {
      let newest = 0, count = 0, place = null;
      async function show() {
        const mine = ++newest, next = document.createElement("div");
        next.innerHTML = model.get("html");
        for (const image of next.querySelectorAll("img")) {
          image.draggable = false;
          await image.decode();
        }
        if (mine === newest) el.replaceChildren(next);
      }
      function send(event) {
        place = null;
        model.set("pointer", [...event, ++count]);
        model.save_changes();
      }
      function touched(kind, event) {
        const box = el.querySelector("img").getBoundingClientRect();
        const now = [kind, (event.clientX - box.left) / box.width, (box.bottom - event.clientY) / box.height];
        if (kind === "move" && model.get("answered") < count) place = now;
        else send(now);
      }
      el.setAttribute("aria-live", "polite");
      requestAnimationFrame(() => {  // or Notebook 7 takes the arrow keys for itself
        for (const handle of el.closest(".explorer")?.querySelectorAll(".noUi-handle") ?? []) {
          handle.setAttribute("data-lm-suppress-shortcuts", "true");
        }
      });
      if (model.get("touchable")) {
        el.style.touchAction = "none";
        el.style.cursor = "pointer";
        el.addEventListener("pointerdown", (event) => {
          if (event.target.tagName !== "IMG" || event.button) return;
          el.setPointerCapture(event.pointerId);
          touched("down", event);
        });
        el.addEventListener("pointermove", (event) => {
          if (el.hasPointerCapture(event.pointerId)) touched("move", event);
        });
        model.on("change:answered", () => place && send(place));  // where the pointer has gone in the meantime
      }
      model.on("change:html", show);
      show();
    }
    export default { render };
    """


class Pad(anywidget.AnyWidget):
    """A sheet of paper for mouse, finger or pen, with what the network sees of it beside it.

    label: its name. strokes: what is drawn on it, as in drawings.py, changed at the end of every stroke; may be set.
    image: what `drawings.prepare` makes of it. seen: the same as hexadecimal digits, a byte per pixel, for the browser.
    """

    label = traitlets.Unicode().tag(sync=True)
    strokes = traitlets.List().tag(sync=True)
    seen = traitlets.Unicode().tag(sync=True)

    @traitlets.observe("strokes")
    def _see(self, change):
        self.image = prepare(self.strokes)
        self.seen = bytes((255 * self.image).byte().flatten().tolist()).hex()

    def __init__(self, **traits):
        super().__init__(**traits)
        self._see(None)

    _esm = """
    function render({ model, el }) {
      const ground = "display:inline-block;background:white;border:1px solid gray;vertical-align:top;";
      el.innerHTML = `<div style="margin:4px"><b></b><br>
        <canvas class="paper" width="280" height="280" style="${ground}width:140px;height:140px;touch-action:none;
          cursor:crosshair" role="img"></canvas>
        <canvas class="seen" width="28" height="28" style="${ground}width:56px;height:56px;image-rendering:pixelated"
          role="img"></canvas><br>
        <button class="undo">undo</button> <button class="clear">clear</button></div>`;
      const paper = el.querySelector(".paper"), seen = el.querySelector(".seen"), pen = paper.getContext("2d");
      let stroke = null, pointer = null;
      function draw() {
        const strokes = [...model.get("strokes"), ...(stroke ? [stroke] : [])];
        pen.clearRect(0, 0, 280, 280);
        pen.lineWidth = 8;
        pen.lineCap = pen.lineJoin = "round";
        for (const points of strokes) {
          pen.beginPath();
          for (const [x, y] of [...points, points.at(-1)]) pen.lineTo(280 * x, 280 * y);
          pen.stroke();
        }
        paper.ariaLabel = `drawing ${model.get("label")}: ${strokes.length} strokes`;
        el.querySelector("b").textContent = model.get("label");
      }
      function see() {
        const pixels = new ImageData(28, 28), digits = model.get("seen");
        for (let i = 0; i < 784; i++) {
          pixels.data.fill(parseInt(digits.slice(2 * i, 2 * i + 2), 16), 4 * i, 4 * i + 3);
          pixels.data[4 * i + 3] = 255;
        }
        seen.getContext("2d").putImageData(pixels, 0, 0);
        seen.ariaLabel = `what the network sees of drawing ${model.get("label")}`;
      }
      function change(strokes) {
        model.set("strokes", strokes);
        model.save_changes();
      }
      function point(event) {
        const box = paper.getBoundingClientRect();
        const inside = (value) => Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000;
        stroke.push([inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)]);
        draw();
      }
      function end(event) {
        if (event.pointerId !== pointer) return;
        const strokes = [...model.get("strokes"), stroke];
        stroke = pointer = null;
        change(strokes);
      }
      paper.addEventListener("pointerdown", (event) => {
        if (stroke || event.button) return;
        paper.setPointerCapture(pointer = event.pointerId);
        stroke = [];
        point(event);
      });
      paper.addEventListener("pointermove", (event) => event.pointerId === pointer && point(event));
      paper.addEventListener("pointerup", end);
      paper.addEventListener("pointercancel", end);
      el.querySelector(".undo").addEventListener("click", () => change(model.get("strokes").slice(0, -1)));
      el.querySelector(".clear").addEventListener("click", () => change([]));
      model.on("change:strokes change:label", draw);
      model.on("change:seen", see);
      draw();
      see();
    }
    export default { render };
    """


def show_errors(function, error):
    """`function` as a callback whose errors are seen, in the ipywidgets.HTML `error`; Jupyter would hide them.

    A text that the function returns is shown there, too.
    """

    def callback(change=None):
        try:
            error.value = function(change) or ""
        except Exception:
            error.value = f'<pre style="color: #D55E00">{escape(traceback.format_exc())}</pre>'

    return callback


def explore(draw, touch=None, **controls):
    """Display controls above the picture that `draw` makes of their values, at once and after every change.

    draw: called with the controls' values by name; returns a `plots.render`.
    touch: called as touch(kind, x, y) where the picture is pressed or dragged over, see `Picture`; it changes controls,
    or what `draw` looks at.
    controls: ipywidgets by name, which is also their label.
    An error that comes up later is shown below the picture. Returns the box of controls, picture and error.
    """
    picture, error, busy = Picture(touchable=touch is not None), ipywidgets.HTML(), False

    def update():
        picture.html = draw(**{name: control.value for name, control in controls.items()})["text/html"]

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

    update()
    for name, control in controls.items():
        control.description = control.description or name.replace("_", " ")
        control.style.description_width = "initial"  # else long names are cut
        control.observe(show_errors(answer, error), "value")
    picture.observe(show_errors(answer, error), "pointer")
    row = ipywidgets.Box(list(controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
    box = ipywidgets.VBox([row, picture, error])
    box.add_class("explorer")
    display(box)
    return box
