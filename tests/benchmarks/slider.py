"""How long is it from a key on a slider to the new picture? python tests/benchmarks/slider.py 01 02

Runs each notebook in JupyterLab in Chromium and presses arrow keys on the sliders of its views, 40 in all. Prints the
median and the 95 % quantile of the milliseconds from the key to the decoded picture, which the browser measures.
For the board of 09 it is from the end of a stroke to the new probabilities.

Needs the extra `browser`. Run it on an idle machine.
"""

import statistics
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from lab import ROOT, chromium, jupyter_server, new_page, open_and_run
from views import explorers, milliseconds_to_next_picture, press, sliders

PRESSES = 40


def measure(page):
    handles = [(view, handle) for view in explorers(page) for handle in sliders(view).values()]
    times = []
    for view, handle in islice(cycle(handles), PRESSES):
        # There and back, with room on both sides: every key gives another value.
        value, least, most = (float(handle.get_attribute(f"aria-value{it}")) for it in ("now", "min", "max"))
        key = "ArrowRight" if value < (least + most) / 2 else "ArrowLeft"
        times.append(milliseconds_to_next_picture(view, lambda handle=handle, key=key: press(handle, key)))
    return times


# From the end of a stroke to other probabilities next to the query.
WATCH = """board => {
    const told = () => [...board.querySelectorAll(".percent")].map(it => it.textContent).join();
    let before = told(), start = null;
    board.addEventListener("pointerup", () => { start ??= performance.now(); }, {capture: true, once: true});
    board.nextAnswer = new Promise(resolve => {
        new MutationObserver((_, observer) => {
            if (start === null || told() === before) return;
            observer.disconnect();
            resolve(performance.now() - start);
        }).observe(board, {subtree: true, childList: true, characterData: true});
    });
}"""


def strokes(page):
    board, times = page.locator(".board"), []
    paper = board.locator("canvas.paper").last
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    for n in range(1, 21):
        board.evaluate(WATCH)
        page.mouse.move(box["x"] + 30, box["y"] + 6 * n)
        page.mouse.down()
        page.mouse.move(box["x"] + 100, box["y"] + 6 * n + 3)
        page.mouse.up()
        times.append(board.evaluate("it => it.nextAnswer"))
        page.wait_for_function("!document.querySelector('.board .busy.now')")
    return times


def main():
    with tempfile.TemporaryDirectory() as folder, jupyter_server(Path(folder)) as server, chromium() as browser:
        for number in sys.argv[1:]:
            (path,) = ROOT.glob(f"notebooks/{number}_*.ipynb")
            with new_page(browser) as page:
                open_and_run(page, server, path.stem)
                times = strokes(page) if number == "09" else measure(page)
            if times:
                quantile = statistics.quantiles(times, n=20, method="inclusive")[-1]
                print(f"{path.stem}: median {statistics.median(times):.0f} ms, 95 % quantile {quantile:.0f} ms")
            else:
                print(f"{path.stem}: no view with a slider")


if __name__ == "__main__":
    main()
