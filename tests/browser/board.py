"""Use the drawing board of `reptile_helpers.board` as a person does."""

import json

# Is there ink within two pixels of a place (fractions from the upper left corner) on a canvas?
IS_INK = """(canvas, [x, y]) => {
    const [left, top] = [Math.round(x * canvas.width) - 2, Math.round(y * canvas.height) - 2];
    const near = canvas.getContext("2d").getImageData(left, top, 5, 5).data;
    return near.some((value, i) => i % 4 === 3 && value > 128);
}"""


def pads(page, name):
    return page.locator(f'.board .pad[data-name="{name}"]')


def press_button(page, label):
    page.locator(".board .buttons").get_by_role("button", name=label, exact=True).click()


def wait_for_answer(page, text, timeout=20_000):
    """Until a query has this answer, such as "query 1 is B"."""
    page.wait_for_function(
        "text => document.querySelector('.board')?.innerText.includes(text)", arg=text, timeout=timeout
    )


def answer_of(page, query):
    """Class → probability in %, as the bars next to the query say."""
    columns = pads(page, query).locator("xpath=..").locator(".column").all()
    told = [column.inner_text().split() for column in columns]
    return {words[-1]: int(words[0]) for words in told if len(words) == 3}


def draw(page, name, strokes, touch=False):
    """Clear the pad of this name and draw on it by mouse or finger. Returns the pad."""
    pad = pads(page, name)
    clear = pad.get_by_role("button", name=f"clear {name}", exact=True)
    if clear.is_enabled():
        clear.click()
    paper = pad.locator("canvas.paper")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    browser = page.context.new_cdp_session(page)
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        if touch:
            kinds = ["touchStart"] + ["touchMove"] * (len(places) - 1) + ["touchEnd"]
            for kind, points in zip(kinds, [[place] for place in places] + [[]], strict=True):
                points = [{"x": x, "y": y} for x, y in points]
                browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        else:
            page.mouse.move(*places[0])
            page.mouse.down()
            for place in places[1:]:
                page.mouse.move(*place)
            page.mouse.up()
    browser.detach()
    return pad


def read(server, file="my_drawings.json"):
    """What the board has saved next to the notebook."""
    return json.loads((server.folder / "notebooks" / file).read_text(encoding="utf-8"))
