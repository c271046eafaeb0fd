"""Use the views of `reptile_helpers.widgets.explore` as a person does: by keys, mouse and finger."""

from lab import IDLE

# Starts to wait for the next picture. The browser takes the time, so that what Playwright needs is not in it.
WATCH = """explorer => {
    let before = explorer.querySelector("img").src, start = null;
    const started = () => start ??= performance.now();
    for (const event of ["keydown", "pointerdown"]) explorer.addEventListener(event, started, {capture: true});
    explorer.nextPicture = new Promise(resolve => {
        new MutationObserver(async (_, observer) => {
            const image = explorer.querySelector("img");
            if (start === null) before = image?.src;  // a late answer to what was done earlier
            if (!image || image.src === before) return;
            observer.disconnect();
            await image.decode();
            resolve(performance.now() - start);
        }).observe(explorer, {subtree: true, childList: true, attributeFilter: ["src"]});
    });
}"""


def explorers(page):
    """The views of the notebook, once all of them have a picture: a list of Playwright's locators."""
    page.wait_for_function("[...document.querySelectorAll('.explorer')].every(it => it.querySelector('img'))")
    return page.locator(".explorer").all()


def sliders(explorer):
    """Label → handle."""
    found = explorer.locator(".widget-slider").all()
    return {it.locator(".widget-label").inner_text(): it.locator(".noUi-handle") for it in found}


def picture(explorer):
    """Its alt, caption and src, all of one moment: it may be replaced at any time."""
    return explorer.evaluate(
        """it => {
            const image = it.querySelector("img");
            return [image.alt, it.querySelector("figcaption").innerText, image.src];
        }"""
    )


def settle(explorer):
    """Wait until for half a second the kernel has been idle and no picture has come: all earlier moves are answered.

    On a busy machine drawing takes longer than that, and the next move leaves only when the last one is answered.
    """
    explorer.page.wait_for_timeout(200)  # the moves reach the kernel
    explorer.evaluate(
        """explorer => new Promise((resolve, reject) => {
            let quiet = 0, left = 1200;
            const observer = new MutationObserver(() => quiet = 0);
            observer.observe(explorer, {subtree: true, childList: true, attributeFilter: ["src"]});
            const timer = setInterval(() => {
                quiet = IDLE ? quiet + 1 : 0;
                if (quiet < 10 && left--) return;
                clearInterval(timer);
                observer.disconnect();
                quiet < 10 ? reject(new Error("after a minute, the kernel is still busy")) : resolve();
            }, 50);
        })""".replace("IDLE", IDLE)
    )


def milliseconds_to_next_picture(explorer, act, timeout=60):
    """Call `act`; the milliseconds from the first key or pointer press in the explorer to another picture."""
    settle(explorer)
    explorer.evaluate(WATCH)
    act()
    return explorer.evaluate(
        """(explorer, seconds) => Promise.race([explorer.nextPicture, new Promise((_, reject) =>
            setTimeout(() => reject(new Error(`no other picture within ${seconds} s`)), 1000 * seconds))])""",
        timeout,
    )


def press(slider, key):
    """Press a key, such as "ArrowRight", on a slider's handle."""
    slider.focus()
    slider.press(key)


def drag_slider(slider, fraction):
    """Drag a slider's handle by mouse to a fraction of its track."""
    slider.hover()  # waits until nothing moves: JupyterLab scrolls to a cell that gets the focus
    page, track = slider.page, slider.locator("xpath=../..").bounding_box()
    page.mouse.down()
    page.mouse.move(track["x"] + fraction * track["width"], track["y"] + track["height"] / 2, steps=5)
    page.mouse.up()


def drag_in_picture(explorer, places, touch=False):
    """Drag through the places by mouse or finger. A place: fractions of width and height from the lower left corner."""
    explorer.locator("img").hover()  # waits until nothing moves
    left, bottom, width, height = explorer.evaluate(
        """it => {
            const box = it.querySelector("img").getBoundingClientRect();
            return [box.left, box.bottom, box.width, box.height];
        }"""
    )
    page = explorer.page
    first, *rest = [(left + x * width, bottom - y * height) for x, y in places]
    if not touch:
        page.mouse.move(*first)
        page.mouse.down()
        for x, y in rest:
            page.mouse.move(x, y, steps=5)
        page.mouse.up()
        return
    # Playwright itself can only tap.
    browser = page.context.new_cdp_session(page)
    for kind, *points in [("touchStart", first), *(("touchMove", place) for place in rest), ("touchEnd",)]:
        browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})
    browser.detach()
