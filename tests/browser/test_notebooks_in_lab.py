"""Every notebook in JupyterLab: run from top to bottom, its views moved by keys, mouse and finger.

SCREENSHOTS in the environment names a folder for pictures.
"""

import os
from pathlib import Path

import pytest
from interactions import use
from lab import ROOT, new_page, open_and_run, write_notebook
from views import explorers, press, settle, sliders

OUTPUT = ".jp-Cell-outputArea"


NAMES = sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb"))
NAMES.sort(key=lambda name: name[:2] != "06")  # the longest first, so that no worker has to wait for it at the end


@pytest.mark.parametrize("name", NAMES)
def test_runs_in_lab(name, page, server, tmp_path):
    open_and_run(page, server, name)
    loading = f"[...document.querySelectorAll('{OUTPUT}')].some(it => it.textContent.includes('Loading widget'))"
    page.wait_for_function(f"!{loading}")
    explorers(page)
    screenshot(page, Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{name}.png")

    outputs = page.locator(OUTPUT).all_text_contents()
    assert not [text for text in outputs if "Error displaying widget" in text or "Error creating widget" in text]
    assert not page.locator(".explorer pre").all_text_contents(), "a view shows an error"
    # What JavaScript of an output throws is shown there, too.
    assert not page.locator(f'{OUTPUT} [data-mime-type="application/vnd.jupyter.stderr"]').all_text_contents()
    figures = page.locator(f"{OUTPUT} img").evaluate_all(
        """images => Promise.all(images.map(async it => {
            await it.decode().catch(() => {});
            const alt = it.alt || it.closest("button")?.ariaLabel || "";  // a button's own name is enough
            return {alt, pixels: it.naturalWidth * it.naturalHeight, area: it.width * it.height};
        }))"""
    )
    assert figures
    assert not [it for it in figures if not (it["alt"].strip() and it["pixels"] and it["area"])]
    use(page, name[:2])


def test_the_board_in_notebook_7(page, server):
    open_and_run(page, server, "09_draw_your_own", app="notebook")
    use(page, "09")


def test_narrow_and_dark(browser, server, tmp_path):
    with new_page(browser, viewport={"width": 600, "height": 900}) as page:
        open_and_run(page, server, "02_inner_and_outer_loop", theme="dark")
        use(page, "02")
        (explorer,) = explorers(page)
        settle(explorer)
        notebook, box = page.locator(".jp-Notebook").bounding_box(), explorer.locator("img").bounding_box()
        assert box["x"] + box["width"] <= notebook["x"] + notebook["width"], "the picture is wider than the notebook"
        screenshot(page, Path(os.environ.get("SCREENSHOTS", tmp_path)) / "narrow_and_dark.png")


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_an_error_in_a_callback_is_seen(app, page, server):
    source = """\
import sys
sys.path.insert(0, "..")
from ipywidgets import IntSlider
from matplotlib import pyplot as plt
from reptile_helpers.plots import render
from reptile_helpers.widgets import explore

def draw(n):
    return render(plt.figure(), alt=f"{1 / n}", caption="")

explore(draw, n=IntSlider(1, 0, 2))"""
    write_notebook(server, "error", [source])
    open_and_run(page, server, "error", app)
    (explorer,) = explorers(page)
    (handle,) = sliders(explorer).values()
    press(handle, "ArrowLeft")
    explorer.locator("pre", has_text="ZeroDivisionError").wait_for()
    press(handle, "ArrowRight")
    explorer.locator("pre").wait_for(state="detached")


def screenshot(page, path):
    """All of the notebook in one picture: it is the notebook that scrolls, so the page becomes as high as that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    hidden = page.locator(".jp-WindowedPanel-outer").evaluate("it => it.scrollHeight - it.clientHeight")
    page.set_viewport_size({"width": size["width"], "height": size["height"] + hidden})
    page.locator(".jp-WindowedPanel-outer").evaluate("it => it.scrollTo(0, 0)")
    page.screenshot(path=path)
    page.set_viewport_size(size)
