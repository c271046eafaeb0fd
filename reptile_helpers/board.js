// The drawing board of notebook 09, see Board in board.py. A stroke is a list of points [x, y], both from 0 to 1.

const SIDE = 300; // of a pad in canvas pixels, twice as many as it is wide on the page

function element(tag, attributes = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function drawStrokes(canvas, strokes, width) {
  const pen = canvas.getContext("2d"), side = canvas.width;
  pen.clearRect(0, 0, side, side);
  pen.lineWidth = width;
  pen.lineCap = pen.lineJoin = "round";
  for (const points of strokes) {
    pen.beginPath();
    for (const [x, y] of points) pen.lineTo(side * x, side * y);
    pen.stroke();
    // A line of length zero would draw nothing.
    const [[x, y] = [-1, -1]] = points;
    pen.beginPath();
    pen.arc(side * x, side * y, width / 2, 0, 2 * Math.PI);
    pen.fill();
  }
}

// The part of the page where the class or the query `name` is drawn.
function makePad(model, name) {
  const paper = element("canvas", { class: "paper", width: SIDE, height: SIDE, role: "img" });
  const seen = element("canvas", { class: "seen", width: 28, height: 28, role: "img" });
  seen.setAttribute("aria-label", `what the network sees of ${name}`);
  const title = element("div", { class: "title" }, [name]);
  const undo = element("button", { type: "button", "aria-label": `undo the last stroke of ${name}` }, ["undo"]);
  const clear = element("button", { type: "button", "aria-label": `clear ${name}` }, ["clear"]);
  const pad = element("div", { class: "pad", "data-name": name }, [
    title, paper, element("div", { class: "below" }, [undo, clear, seen]),
  ]);
  const strokes = () => model.get("drawings")[name] ?? [];
  let stroke = null, pointer = null;

  function draw() {
    const all = stroke ? [...strokes(), stroke] : strokes();
    drawStrokes(paper, all, 8);
    paper.setAttribute("aria-label", `drawing of ${name}: ${all.length} ${all.length === 1 ? "stroke" : "strokes"}`);
    undo.disabled = clear.disabled = !all.length;
  }

  function see() {
    const digits = model.get("images")[name] ?? "ff".repeat(784), pixels = new ImageData(28, 28);
    for (let i = 0; i < 784; i++) {
      pixels.data.fill(parseInt(digits.slice(2 * i, 2 * i + 2), 16), 4 * i, 4 * i + 3);
      pixels.data[4 * i + 3] = 255;
    }
    seen.getContext("2d").putImageData(pixels, 0, 0);
  }

  function change(drawing) {
    model.set("drawings", { ...model.get("drawings"), [name]: drawing });
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
    const drawing = [...strokes(), stroke];
    stroke = pointer = null;
    change(drawing);
  }

  paper.addEventListener("pointerdown", (event) => {
    if (stroke || event.button) return;
    paper.setPointerCapture((pointer = event.pointerId));
    stroke = [];
    point(event);
  });
  paper.addEventListener("pointermove", (event) => event.pointerId === pointer && point(event));
  paper.addEventListener("pointerup", end);
  paper.addEventListener("pointercancel", end);
  undo.addEventListener("click", () => change(strokes().slice(0, -1)));
  clear.addEventListener("click", () => change([]));
  return { pad, title, draw, see };
}

// Next to a query: a bar for the probability of each class, with the drawing of the class under it.
function makeAnswer(model, query) {
  const bars = model.get("examples").map((name) => {
    const percent = element("span", { class: "percent" }), fill = element("div", { class: "fill" });
    const own = element("canvas", { class: "own", width: 80, height: 80, role: "img", "aria-label": `class ${name}` });
    const column = element("div", { class: "column" }, [
      element("div", { class: "bar" }, [percent, fill]), own, element("span", {}, [name]),
    ]);
    return { name, percent, fill, own, column };
  });
  const answer = element("div", { class: "answer" }, bars.map((bar) => bar.column));

  function drawAnswer() {
    const probabilities = model.get("probabilities")[query] ?? {};
    const most = Math.max(...Object.values(probabilities));
    for (const { name, percent, fill, own, column } of bars) {
      const p = probabilities[name];
      percent.textContent = p === undefined ? "" : `${Math.round(100 * p)} %`;
      fill.style.height = `${100 * (p ?? 0)}px`;
      column.classList.toggle("most", p === most);
      drawStrokes(own, model.get("drawings")[name] ?? [], 4);
    }
  }

  // What the bars show, in words.
  function sentence() {
    const [best] = Object.entries(model.get("probabilities")[query] ?? {}).sort((a, b) => b[1] - a[1]);
    return best ? `${query} is ${best[0]} (${Math.round(100 * best[1])} %)` : query;
  }

  return { answer, drawAnswer, sentence };
}

function makeButtons(model) {
  const file = element("input", { type: "text", value: model.get("file"), "aria-label": "name of the file" });
  const button = (label) => {
    const made = element("button", { type: "button" }, [label]);
    made.addEventListener("click", () => model.send({ do: label, file: file.value }));
    return made;
  };
  const busy = element("span", { class: "busy" }, ["learning …"]);
  model.on("change:busy", () => busy.classList.toggle("now", model.get("busy")));
  const files = element("label", {}, ["file ", file]);
  return element("div", { class: "buttons" }, [
    button("sample drawings"), button("clear all"), files, button("save"), button("load"), busy,
  ]);
}

function render({ model, el }) {
  const examples = model.get("examples").map((name) => makePad(model, name));
  const queries = model.get("queries").map((name) => ({ ...makePad(model, name), ...makeAnswer(model, name) }));
  const message = element("div", { class: "message", role: "status" });
  el.replaceChildren(
    element("div", { class: "board", "data-lm-suppress-shortcuts": "true" }, [
      makeButtons(model),
      element("div", { class: "row" }, examples.map((it) => it.pad)),
      element("div", { class: "row" }, queries.map((it) => element("div", { class: "query" }, [it.pad, it.answer]))),
      message,
    ]),
  );
  for (const it of queries) it.title.setAttribute("role", "status");

  function draw() {
    for (const it of [...examples, ...queries]) it.draw();
    answer();
  }
  function answer() {
    for (const it of queries) {
      it.drawAnswer();
      it.title.textContent = it.sentence();
    }
  }
  function see() {
    for (const it of [...examples, ...queries]) it.see();
  }
  function say() {
    message.textContent = model.get("message");
  }
  model.on("change:drawings", draw);
  model.on("change:probabilities", answer);
  model.on("change:images", see);
  model.on("change:message", say);
  draw();
  see();
  say();
}

export default { render };
