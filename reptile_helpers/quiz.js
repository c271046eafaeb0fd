// The test of notebook 05, see Quiz in quiz.py: a press on an image, or a number key, is an answer.

function render({ model, el }) {
  el.classList.add("quiz");
  el.tabIndex = 0;
  el.setAttribute("role", "group");
  el.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab makes a heading of the cell when 1 is pressed

  function show() {
    const focused = el.contains(document.activeElement);
    el.innerHTML = model.get("html");
    if (focused) el.focus({ preventScroll: true });
  }

  el.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) model.send({ task: Number(button.dataset.task), label: Number(button.dataset.label) });
  });
  el.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    el.querySelector(`button[data-key="${CSS.escape(event.key)}"]`)?.click();
  });
  model.on("change:html", show);
  show();
}

export default { render };
