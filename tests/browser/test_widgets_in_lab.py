"""The widgets of reptile_helpers in JupyterLab, used by mouse, finger and keys as a person uses them."""

import json

import pytest
from board import IS_INK, answer_of, draw, pads, press_button, read, wait_for_answer
from lab import new_page, open_and_run, write_notebook
from views import drag_in_picture, explorers, press, settle, sliders

START = """\
import sys
sys.path.insert(0, "..")
import ipywidgets
import torch
from matplotlib import pyplot as plt
from reptile_helpers.board import Board
from reptile_helpers.plots import render, use_style
from reptile_helpers.quiz import quiz
from reptile_helpers.widgets import explore, play_button, predict
use_style()"""

EXPLORE = """\
fig, ax = plt.subplots(figsize=(3, 2))

def draw(alpha, k):
    ax.set_title(f"{alpha:.3g}, {k}")
    return render(fig, alt=f"alpha {alpha:.3g} k {k}", caption="A picture.")

k = ipywidgets.IntSlider(2, 0, 8)
explore(draw, alpha=ipywidgets.FloatLogSlider(0.02, min=-3, max=0), k=k, play=play_button(k, milliseconds=50))"""

TOUCH = """\
import json
import time
touched, x = [], ipywidgets.FloatSlider(0, min=0, max=1)
fig, ax = plt.subplots(figsize=(3, 2))

def draw(x):
    time.sleep(0.2)
    return render(fig, alt=f"x {x:.2f}", caption="A picture.")

def touch(kind, right, up):
    touched.append((kind, right, up))
    x.value = right

explore(draw, touch, x=x)"""

BOARD = """\
def nearest(examples, queries):
    pixels = [torch.stack(list(images.values())).flatten(1) for images in (queries, examples)]
    return (-torch.cdist(*pixels)).softmax(-1)

board = Board(nearest)
board.show()"""

QUIZ = """\
images = torch.zeros(4, 5, 1, 28, 28)
for n in range(5):
    images[:, n, :, 5 * n : 5 * n + 5] = 1  # every class is a bar at another height, and the query is its example
test = quiz(images, torch.arange(5).repeat(4, 1), images, torch.arange(5).repeat(4, 1), tasks=4)"""

PREDICT = """\
number = predict("How many?", 0, 10)
choice = predict("Which one?", choices=["this", "that"])"""


def open_notebook(page, server, *cells, app="lab"):
    write_notebook(server, "widgets", [START, *cells])
    open_and_run(page, server, "widgets", app)


def run_last_cell(page):
    """Run the last cell by keyboard, and return what it prints."""
    cell = page.locator(".jp-CodeCell").last
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    output = cell.locator(".jp-OutputArea-output pre")
    output.wait_for()
    return output.inner_text()


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_sliders_have_names_and_say_their_values(app, page, server):
    open_notebook(page, server, EXPLORE, app=app)
    (explorer,) = explorers(page)
    alpha, k = sliders(explorer).values()
    assert [it.get_attribute("aria-label") for it in (alpha, k)] == ["α", "k"]
    assert [it.get_attribute("aria-valuetext") for it in (alpha, k)] == ["0.0200", "2"]
    press(alpha, "ArrowRight")
    settle(explorer)
    said = alpha.get_attribute("aria-valuetext")
    assert float(said) > 0.02 and said == explorer.locator(".widget-readout").first.inner_text()
    tracks = [it.locator("xpath=../..").bounding_box() for it in (alpha, k)]
    assert tracks[0]["width"] == tracks[1]["width"] > 80


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_after_a_click_on_the_track_keys_move_the_handle(app, page, server):
    open_notebook(page, server, EXPLORE, app=app)
    (explorer,) = explorers(page)
    _, k = sliders(explorer).values()
    track = k.locator("xpath=../..").bounding_box()
    page.mouse.click(track["x"] + 0.6 * track["width"], track["y"] + track["height"] / 2)
    settle(explorer)
    before = int(k.get_attribute("aria-valuetext"))
    page.keyboard.press("ArrowRight")
    settle(explorer)
    assert before > 2 and int(k.get_attribute("aria-valuetext")) == before + 1
    assert f"k {before + 1}" in explorer.locator("img").get_attribute("alt")


def test_the_play_button_goes_to_the_end(page, server):
    open_notebook(page, server, EXPLORE)
    (explorer,) = explorers(page)
    explorer.locator(".widget-play button").first.click()
    page.wait_for_function("document.querySelector('.explorer img').alt.endsWith('k 8')")
    settle(explorer)
    assert "k 8" in explorer.locator("img").get_attribute("alt")


def test_a_slow_picture_follows_the_pointer_to_where_it_ends(page, server):
    """Python hears of the first place and the last one, and in between only of as many as it has answered."""
    open_notebook(page, server, TOUCH, "print(json.dumps(touched))")
    (explorer,) = explorers(page)
    way = [(0.2 + 0.02 * n, 0.3 + 0.01 * n) for n in range(31)]
    drag_in_picture(explorer, way)
    settle(explorer)
    assert "x 0.80" in explorer.locator("img").get_attribute("alt")
    touched = json.loads(run_last_cell(page))
    assert [kind for kind, *_ in touched] == ["down"] + ["move"] * (len(touched) - 1) and 2 <= len(touched) < 25
    for (_, *place), expected in ((touched[0], way[0]), (touched[-1], way[-1])):
        assert max(abs(a - b) for a, b in zip(place, expected, strict=True)) < 0.02


def test_a_prediction_by_keys_and_mouse(page, server):
    compare = 'number.compare(3.14, "steps")\nchoice.compare("that")\nprint("end")'
    open_notebook(page, server, PREDICT, compare)
    assert run_last_cell(page).strip() == "end"
    press(page.locator(".prediction .noUi-handle"), "ArrowRight")
    page.locator(".prediction").get_by_role("button", name="that", exact=True).click()
    page.wait_for_function("[...document.querySelectorAll('.prediction')].every(it => it.innerText.includes('noted'))")
    told = run_last_cell(page).splitlines()
    assert told[:2] == ["Your prediction: 1 steps. Measured: 3.1 steps.", "Your prediction: that. Measured: that."]


def test_the_test_by_mouse_finger_and_keys(browser, server):
    with new_page(browser, has_touch=True) as page:
        open_notebook(page, server, QUIZ, 'print(test.correct, test.scores, test.labels, "end")')

        def shows(text):
            page.wait_for_function("text => document.querySelector('.quiz').innerText.includes(text)", arg=text)

        labels = json.loads(run_last_cell(page).split("None ")[1].split(" end")[0])
        shows("Task 1 of 4")
        page.locator(".quiz button").nth(labels[0]).click()
        shows("Task 2 of 4")
        page.locator(".quiz button").nth(labels[1]).tap()
        shows("Task 3 of 4")
        page.keyboard.press(str(labels[2] + 1))
        shows("Task 4 of 4")
        assert page.locator(".jp-MarkdownCell").count() == 0, "the key has changed the cell"
        page.keyboard.press("Tab")  # to the first image
        for _ in range((labels[3] + 1) % 5):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        shows("You recognized 3 of 4")
        assert run_last_cell(page).startswith("[True, True, True, False] tensor([1., 1., 1., 0.])")


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "finger"])
def test_a_stroke_is_where_it_was_drawn(touch, page, server):
    open_notebook(page, server, BOARD)
    wait_for_answer(page, "query 1 is B")
    stroke = [[0.2, 0.1], [0.5, 0.3], [0.7, 0.9]]
    draw(page, "query 2", [stroke], touch)
    press_button(page, "save")
    page.locator(".board .message", has_text="Saved in").wait_for()
    (kept,) = read(server)["query 2"]
    assert len(kept) == 3
    for place, expected in zip(kept, stroke, strict=True):
        assert max(abs(a - b) for a, b in zip(place, expected, strict=True)) < 0.01
    # Ink on the pad is at the same places.
    paper = pads(page, "query 2").locator("canvas.paper")
    for x, y, is_ink in [*((x, y, True) for x, y in stroke), (0.2, 0.9, False)]:
        assert paper.evaluate(IS_INK, [x, y]) == is_ink


def test_a_dot_is_seen(page, server):
    open_notebook(page, server, BOARD)
    wait_for_answer(page, "query 1 is B")
    pad = draw(page, "A", [[[0.4, 0.6]]])
    assert pad.locator("canvas.paper").evaluate(IS_INK, [0.4, 0.6])
    assert not pad.locator("canvas.paper").evaluate(IS_INK, [0.6, 0.4])
    page.wait_for_function(
        """() => {
            const seen = document.querySelector('.board .pad[data-name="A"] canvas.seen');
            const pixels = seen.getContext("2d").getImageData(0, 0, 28, 28).data;
            const ink = pixels.filter((v, i) => i % 4 === 0 && v < 128).length;
            return ink > 0 && ink < 9;
        }"""
    )


def test_the_board_by_keyboard(page, server):
    open_notebook(page, server, BOARD)
    wait_for_answer(page, "query 1 is B")
    names = page.locator(".board button").evaluate_all("all => all.map(it => it.ariaLabel ?? it.textContent)")
    assert len(names) == len({*names}) == 4 + 2 * 7
    undo = page.get_by_role("button", name="undo the last stroke of A", exact=True)
    label = pads(page, "A").locator("canvas.paper")
    assert label.get_attribute("aria-label") == "drawing of A: 2 strokes"
    undo.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "it => document.querySelector('.board .pad[data-name=\"A\"] .paper').ariaLabel === it",
        arg="drawing of A: 1 stroke",
    )
    page.get_by_role("button", name="clear query 1", exact=True).press("Space")
    page.wait_for_function("!document.querySelector('.board').innerText.includes('query 1 is')")
    assert answer_of(page, "query 1") == {} and len(answer_of(page, "query 2")) == 5
    page.get_by_role("button", name="sample drawings", exact=True).press("Enter")
    wait_for_answer(page, "query 1 is B")
    page.get_by_role("textbox", name="name of the file").fill("nothing.json")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".board .message", has_text="There is no file nothing.json.").wait_for()
    assert page.locator(".jp-CodeCell").count() == 2, "a key has changed the notebook"


def test_the_board_fits_the_screen_and_buttons_do_not_jump(browser, server):
    with new_page(browser, viewport={"width": 1280, "height": 900}) as page:
        open_notebook(page, server, BOARD)
        wait_for_answer(page, "query 1 is B")
        board = page.locator(".board")
        box = board.bounding_box()
        assert box["height"] <= 510, box
        tops = {pads(page, name).bounding_box()["y"] for name in "ABCDE"}
        assert len(tops) == 1, "the pads do not stand in one row"
        rectangles = "all => all.map(it => JSON.stringify(it.getBoundingClientRect()))"
        places = board.locator("button").evaluate_all(rectangles)
        press_button(page, "clear all")
        page.locator(".board .message", has_text="Draw at least two").wait_for()
        now = board.locator("button").evaluate_all(rectangles)
        assert now == places
