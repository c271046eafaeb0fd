// A picture that says where it is touched, and better manners for the sliders above it. See Picture in widgets.py.

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
  requestAnimationFrame(() => improveSliders(el.closest(".explorer, .prediction")));
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
    model.on("change:answered", () => place && send(place)); // where the pointer has gone in the meantime
  }
  model.on("change:html", show);
  show();
}

// A slider's handle gets a name and says the value in its readout: a logarithmic slider would say the exponent.
function improveSliders(root) {
  for (const handle of root?.querySelectorAll(".noUi-handle, .ui-slider-handle") ?? []) {
    const slider = handle.closest(".widget-slider"), track = handle.closest(".noUi-target, .ui-slider");
    const label = slider?.querySelector(".widget-label"), readout = slider?.querySelector(".widget-readout");
    handle.setAttribute("data-lm-suppress-shortcuts", "true"); // or Notebook 7 takes the arrow keys for itself
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", label?.textContent || "your prediction");
    if (readout) {
      const say = () => {
        if (handle.getAttribute("aria-valuetext") !== readout.textContent) {
          handle.setAttribute("aria-valuetext", readout.textContent);
        }
      };
      new MutationObserver(say).observe(handle, { attributeFilter: ["aria-valuetext"] });
      new MutationObserver(say).observe(readout, { childList: true, characterData: true, subtree: true });
      say();
    }
    // After a click on the track the arrow keys should move the handle. JupyterLab would focus the cell.
    track?.addEventListener("pointerup", () => setTimeout(() => handle.focus()));
  }
}

export default { render };
