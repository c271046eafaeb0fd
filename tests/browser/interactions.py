"""What a reader does with the views of a notebook, and what must come of it. By notebook number, see ACTIONS."""

import json
import re

from board import draw, pads, press_button, wait_for_answer
from lab import ROOT
from views import drag_in_picture, drag_slider, explorers, milliseconds_to_next_picture, picture, press, settle, sliders

DRAWINGS = json.loads((ROOT / "reptile_helpers" / "drawings.json").read_text(encoding="utf-8"))

WIDTH = "it => it.querySelector('img').getBoundingClientRect().width"


def every_slider(explorer):
    """Each slider of the explorer, by key and by mouse, gives another picture, in the place of the one before."""
    for label, handle in sliders(explorer).items():
        width = explorer.evaluate(WIDTH)
        at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        changed = milliseconds_to_next_picture(
            explorer, lambda h=handle, e=at_end: press(h, "ArrowLeft" if e else "ArrowRight")
        )
        assert changed < 5000, f"{label}: {changed:.0f} ms"
        now, least, most = (float(handle.get_attribute(f"aria-value{it}")) for it in ("now", "min", "max"))
        end = 0.02 if now > (least + most) / 2 else 0.98
        milliseconds_to_next_picture(explorer, lambda h=handle, e=end: drag_slider(h, e))
        settle(explorer)
        assert explorer.locator("img").count() == 1, f"{label}: pictures are stacked"
        assert picture(explorer)[0].strip(), f"{label}: the picture has no text alternative"
        assert abs(explorer.evaluate(WIDTH) - width) < 2, f"{label}: the picture jumps"
        drag_slider(handle, (now - least) / (most - least))  # back: at the end of one slider another may have no effect
        settle(explorer)
    error = explorer.locator("pre")
    assert not error.count(), error.first.inner_text()


def is_dark(explorer, x, y):
    """Is there black ink within 1.2 % of the width of a place in the picture (fractions from the lower left corner)?"""
    return explorer.evaluate(
        """(explorer, [x, y]) => {
            const image = explorer.querySelector("img"), canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const r = Math.round(0.012 * canvas.width);
            const [left, top] = [x * canvas.width - r, (1 - y) * canvas.height - r];
            const near = context.getImageData(left, top, 2 * r + 1, 2 * r + 1).data;
            return near.some((value, i) => i % 4 === 0 && near[i] + near[i + 1] + near[i + 2] < 200);
        }""",
        [x, y],
    )


def drag_a_point(page):
    """01: a pressed point goes where the pointer goes, along its wave, and the sliders say where it is."""
    (explorer,) = explorers(page)
    milliseconds_to_next_picture(explorer, lambda: drag_in_picture(explorer, [(0.2, 0.5), (0.25, 0.5)]))
    settle(explorer)
    readout = explorer.locator(".widget-slider", has_text="move it to").locator(".widget-readout")
    before = float(readout.inner_text())
    drag_in_picture(explorer, [(0.25, 0.5), (0.29, 0.5)])
    settle(explorer)
    moved = float(readout.inner_text()) - before
    assert 1 < moved < 2, moved  # the panel is about a third of the figure and shows 10 units: 0.04 are 1.3


def drag_the_start(page, touch=False):
    """02: the hollow circle is drawn where it was dragged to, and Python knows it."""
    (explorer,) = explorers(page)
    for place in ((0.25, 0.4), (0.4, 0.75)):  # the plane is the left half
        drag_in_picture(explorer, [(0.2, 0.6), place], touch)
        settle(explorer)
        assert is_dark(explorer, *place)
    start = [float(n) for n in re.findall(r"started at \((-?[\d.]+), (-?[\d.]+)\)", picture(explorer)[0])[0]]
    assert start[0] > 0 and start[1] > 1, start


def choose_characters(page):
    """06: alphabet and characters are chosen in lists or by a click on a drawing; too few or many give a sentence."""
    (explorer,) = explorers(page)
    alphabet, characters = explorer.locator("select").all()
    names = alphabet.locator("option").all_inner_texts()
    choose(explorer, lambda: alphabet.select_option(names[1]))
    assert picture(explorer)[0].startswith(names[1].replace("_", " "))
    those = characters.locator("option").all_inner_texts()
    choose(explorer, lambda: characters.select_option(those[:3]))
    assert "of 57 queries" in picture(explorer)[0]
    for some in (those[:6], those[:1]):
        if len(some) in (1, 6):
            choose(explorer, lambda some=some: characters.select_option(some))
            assert "Choose two to five" in picture(explorer)[0]
    choose(explorer, lambda: drag_in_picture(explorer, [(1.5 / 15, 0.88)]))
    assert "of 38 queries" in picture(explorer)[0]
    assert not explorer.locator("pre").count()


def choose(explorer, act):
    """Call `act`, and wait for another picture, and until no more of them come."""
    before = picture(explorer)[2]
    act()
    explorer.page.wait_for_function(
        "before => { const it = document.querySelector('.explorer img'); return it && it.src !== before; }", arg=before
    )
    settle(explorer)


def draw_until_it_is_right(page):
    """09: drawn by mouse and by finger, a query is recognized; undo and clear take strokes back."""
    wait_for_answer(page, "query 1 is B")
    draw(page, "query 1", DRAWINGS["A"])
    wait_for_answer(page, "query 1 is A")
    draw(page, "query 2", DRAWINGS["D"], touch=True)
    wait_for_answer(page, "query 2 is D")
    pad = pads(page, "query 2")
    strokes = len(DRAWINGS["D"])
    assert f"{strokes} stroke" in pad.locator("canvas.paper").get_attribute("aria-label")
    pad.get_by_role("button", name="undo").click()
    page.wait_for_function(
        "text => document.querySelector('.board .pad[data-name=\"query 2\"] .paper').ariaLabel.includes(text)",
        arg=f"{strokes - 1} stroke",
    )
    pad.get_by_role("button", name="clear").click()
    page.wait_for_function("!document.querySelector('.board').innerText.includes('query 2 is')")
    press_button(page, "sample drawings")
    wait_for_answer(page, "query 1 is B")
    wait_for_answer(page, "query 2 is E")
    assert not page.locator(".board .message").inner_text()


def take_the_test(page):
    """05: every task of the test is answered, and the score appears."""
    quiz = page.locator(".quiz")
    quiz.scroll_into_view_if_needed()
    count = int(re.search(r"of (\d+)", quiz.inner_text())[1])
    for task in range(count):
        page.wait_for_function(
            "text => document.querySelector('.quiz').innerText.includes(text)", arg=f"Task {task + 1} of {count}"
        )
        quiz.locator("button").nth(task % 5).click()
    page.wait_for_function("document.querySelector('.quiz').innerText.includes('You recognized')")


def enter_predictions(page):
    """Every question takes an answer."""
    for prediction in page.locator(".prediction").all():
        prediction.scroll_into_view_if_needed()
        for handle in prediction.locator(".noUi-handle").all():
            press(handle, "ArrowRight")
        for button in prediction.locator(".widget-toggle-buttons button").all()[:1]:
            button.click()
        prediction.get_by_text("noted").wait_for()


ACTIONS = {
    "01": [drag_a_point],
    "02": [drag_the_start, lambda page: drag_the_start(page, touch=True)],
    "06": [choose_characters],
    "05": [lambda page: take_the_test(page) if page.locator(".quiz").count() else None],
    "09": [draw_until_it_is_right],
}


def use(page, number):
    """All views of a notebook that has been run."""
    for explorer in explorers(page):
        every_slider(explorer)
    enter_predictions(page)
    for action in ACTIONS.get(number, ()):
        action(page)
