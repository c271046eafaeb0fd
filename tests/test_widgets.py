"""Live views, driven from Python; tests/browser uses them as a person does."""

import re

import ipywidgets
import pytest
import torch
from matplotlib import pyplot as plt

from reptile_helpers import widgets
from reptile_helpers.board import Board
from reptile_helpers.characters import GENERATED, Characters
from reptile_helpers.drawings import load_drawings, prepare
from reptile_helpers.plots import render
from reptile_helpers.quiz import quiz
from reptile_helpers.tasks import FewShotTasks
from reptile_helpers.widgets import explore, play_button, predict, show_errors


def draw(height, label):
    if height == 3:
        raise ValueError("three is <too> much")
    fig, ax = plt.subplots()
    ax.bar([label], [height])
    return render(fig, alt=f"a bar of {height} for {label}", caption="a bar")


WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def displayed(monkeypatch):
    """The bundles that are displayed; those of explore and predict have their widget as "view"."""
    bundles, display_with_still = [], widgets.display_with_still

    def spy(widget, still):
        display_with_still(widget, still)
        bundles[-1]["view"] = widget

    monkeypatch.setattr(widgets, "display", lambda bundle, raw: bundles.append(bundle))
    monkeypatch.setattr(widgets, "display_with_still", spy)
    return bundles


@pytest.fixture
def explorer(displayed):
    controls = {"height": ipywidgets.IntSlider(1, 0, 5), "label": ipywidgets.Text("x", description="name")}

    def touch(kind, x, y):
        controls["height"].value, controls["label"].value = round(5 * y), kind

    explore(draw, touch, **controls)
    _, shown_picture, error = displayed[0]["view"].children
    return controls, shown_picture, error


def test_the_picture_follows_the_controls(explorer):
    controls, shown_picture, error = explorer
    assert "a bar of 1 for x" in shown_picture.html and shown_picture.touchable
    controls["height"].value = 4
    assert "a bar of 4 for x" in shown_picture.html and not error.value
    assert (controls["height"].description, controls["label"].description) == ("height", "name")
    assert not plt.get_fignums()


def test_the_pointer_is_answered_with_one_picture(explorer):
    controls, shown_picture, error = explorer
    seen = []
    shown_picture.observe(lambda change: seen.append(change.new), "html")
    shown_picture.pointer = ["down", 0.3, 0.8, 7]
    assert controls["height"].value == 4 and len(seen) == 1 and "a bar of 4 for down" in seen[0]
    assert shown_picture.answered == 7


def test_an_error_is_seen_and_goes_away(explorer):
    controls, shown_picture, error = explorer
    controls["height"].value = 3
    assert "ValueError: three is &lt;too&gt; much" in error.value and "a bar of 1" in shown_picture.html
    shown_picture.pointer = ["move", 0, 0.6, 8]
    assert shown_picture.answered == 8 and error.value  # the browser may go on
    controls["height"].value = 2
    assert not error.value and "a bar of 2" in shown_picture.html


def test_one_output_holds_the_view_and_a_still_picture(displayed):
    assert explore(draw, height=ipywidgets.IntSlider(1, 0, 5), label=ipywidgets.Text("x")) is None
    (bundle,) = displayed
    box = bundle["view"]
    assert bundle[WIDGET]["model_id"] == box.model_id and bundle["text/html"] == box.children[1].html
    assert "a bar of 1 for x" in bundle["text/plain"]


def test_a_sentence_can_take_the_place_of_a_picture(displayed):
    explore(lambda n: f"{n} is < 2", n=ipywidgets.IntSlider(1, 0, 5))
    assert displayed[0]["view"].children[1].html == displayed[0]["text/html"] == "<p>1 is &lt; 2</p>"


def test_labels_are_greek_and_equally_wide(displayed):
    controls = {name: ipywidgets.IntSlider() for name in ("alpha", "phi_1", "meta_iterations")}
    explore(lambda **values: "", **controls)
    assert [control.description for control in controls.values()] == ["α", "φ 1", "meta iterations"]
    assert {control.style.description_width for control in controls.values()} == {"16ch"}


def test_the_play_button_moves_the_slider(displayed):
    slider, drawn = ipywidgets.IntSlider(2, 0, 10, 2), []
    play = play_button(slider, milliseconds=50)
    explore(lambda n: drawn.append(n) or "", n=slider, play=play)
    assert (play.value, play.min, play.max, play.step, play.interval) == (2, 0, 10, 2, 50)
    play.value = 4
    assert slider.value == 4 and drawn == [2, 4]
    slider.value = 8
    assert play.value == 8


SINE = "Your prediction: 0.3. Measured: 0.14.\n"


@pytest.mark.parametrize(
    "arguments, guess, result, unit, printed",
    [
        ({"choices": ["A", "B"]}, "B", "A", "", "Your prediction: B. Measured: A.\n"),
        ({"minimum": 0, "maximum": 100}, 40, 57.31, "%", "Your prediction: 40 %. Measured: 57.3 %.\n"),
        ({"minimum": 0, "maximum": 5, "step": 0.1}, 0.3, torch.tensor(0.137), "", SINE),
        ({"minimum": 0, "maximum": 100}, 40, 3, "tasks", "Your prediction: 40 tasks. Measured: 3 tasks.\n"),
    ],
)
def test_a_prediction_is_compared_once_it_is_made(arguments, guess, result, unit, printed, displayed, capsys):
    prediction = predict("How <many>?", **arguments)
    prediction.compare(result, unit)
    assert prediction.value is None and not capsys.readouterr().out
    prediction.control.value = guess
    assert prediction.value == guess
    prediction.compare(result, unit)
    assert capsys.readouterr().out == printed
    (bundle,) = displayed
    assert "How &lt;many&gt;?" in bundle["text/html"] and bundle[WIDGET]


@pytest.mark.parametrize("arguments", [{}, {"minimum": 1, "maximum": 1}, {"minimum": 0, "maximum": 1, "step": 0}])
def test_a_question_without_possible_answers(arguments):
    with pytest.raises(ValueError, match="predict needs choices"):
        predict("Why?", **arguments)


def test_an_error_at_the_start_stops_the_cell():
    with pytest.raises(ValueError, match="three"):
        explore(draw, height=ipywidgets.IntSlider(3, 0, 5), label=ipywidgets.Text("x"))


def test_an_error_of_a_callback_is_shown():
    error = ipywidgets.HTML()
    callback = show_errors(lambda change: change.undefined, error)
    callback(3)
    assert "AttributeError" in error.value
    show_errors(lambda change: None, error)()
    assert not error.value
    show_errors(lambda change: "saved", error)()
    assert error.value == "saved"


def nearest(examples, queries):
    """Probabilities from the distance between images."""
    pixels = [torch.stack(list(images.values())).flatten(1) for images in (queries, examples)]
    return (-torch.cdist(*pixels)).softmax(-1)


@pytest.fixture
def board():
    return Board(nearest)


def test_the_board_starts_with_the_samples_and_answers(board):
    assert board.drawings == load_drawings() and not board.message and not board.busy
    images = {name: prepare(strokes) for name, strokes in load_drawings().items()}
    expected = nearest({n: images[n] for n in board.examples}, {n: images[n] for n in board.queries})
    assert [list(classes) for classes in board.probabilities.values()] == [board.examples] * 2
    assert torch.allclose(torch.tensor([[*classes.values()] for classes in board.probabilities.values()]), expected)
    assert board.answers["query 1"] == "B"
    for name, digits in board.images.items():
        pixels = torch.tensor(list(bytes.fromhex(digits))).view(28, 28)
        assert torch.equal(pixels, (255 * prepare(board.drawings[name])).long())


def test_the_board_asks_only_with_what_is_drawn(board):
    asked = []
    board._answer = lambda *drawn: asked.append(tuple(map(list, drawn))) or nearest(*drawn)
    samples, busy = load_drawings(), []
    board.observe(lambda change: busy.append(change.new), "busy")
    board.drawings = {"query 2": samples["query 2"], "E": samples["E"], "B": samples["B"], "C": []}
    assert asked == [(["B", "E"], ["query 2"])] and busy == [True, False]
    assert list(board.probabilities) == ["query 2"] and set(board.probabilities["query 2"]) == {"B", "E"}


@pytest.mark.parametrize("names", [(), ("A", "query 1"), ("A", "B"), ("query 1", "query 2")])
def test_too_little_is_drawn(board, names):
    board.drawings = {name: load_drawings()[name] for name in names}
    assert board.message == "Draw at least two examples and one query." and not board.probabilities
    assert not board.answers


def test_an_error_on_the_board_is_seen_and_goes_away(board):
    board._answer, answer = (lambda *_: 1 / 0), board._answer
    board.drawings = board.drawings | {"A": []}
    assert "ZeroDivisionError" in board.message and not board.busy and not board.probabilities
    board._answer = answer
    board.drawings = load_drawings()
    assert not board.message and board.answers


def press(board, button, file="x.json"):
    board._handle_custom_msg({"do": button, "file": str(file)}, [])


def test_the_buttons_of_the_board(board, tmp_path):
    mine = board.drawings | {"query 1": board.drawings["A"], "C": []}
    board.drawings = mine
    press(board, "save", tmp_path / "my drawings.json")
    assert board.message.startswith("Saved in ")
    press(board, "clear all")
    assert board.drawings == {} and board.message.startswith("Draw at least")
    press(board, "load", tmp_path / "my drawings.json")
    assert board.drawings == mine and board.answers["query 1"] == "A" and board.message.startswith("Loaded from ")
    press(board, "sample drawings")
    assert board.drawings == load_drawings() and not board.message


def test_a_file_that_fails_is_a_sentence(board, tmp_path):
    (tmp_path / "damaged.json").write_text('{"A": [[', encoding="utf-8")
    for button, file, message in (
        ("load", tmp_path / "none.json", "There is no file .*none.json. Save your drawings first."),
        ("load", tmp_path / "damaged.json", "damaged.json does not contain drawings"),
        ("load", " ", "Enter the name of a file first."),
        ("save", "", "Enter the name of a file first."),
        ("save", tmp_path, "cannot be written: "),
        ("save", tmp_path / "nowhere" / "x.json", "cannot be written: No such file or directory."),
    ):
        press(board, button, file)
        assert re.search(message, board.message) and "\n" not in board.message, board.message
        assert board.drawings == load_drawings()


def test_the_board_is_stored_as_a_picture(board, displayed):
    board.show()
    (bundle,) = displayed
    assert bundle[WIDGET]["model_id"] == board.model_id
    assert "query 1 is B" in bundle["text/plain"] and "<img" in bundle["text/html"]
    board.drawings = {}
    board.show()
    assert "nothing has been drawn yet" in displayed[1]["text/plain"]


@pytest.fixture
def batch():
    images = torch.randint(2, (20, 6, 28, 28), generator=torch.Generator().manual_seed(1)).to(torch.uint8) * 255
    return FewShotTasks(images, ways=5, shots=1).sample(12, torch.Generator().manual_seed(0))


def test_a_person_takes_the_test(batch, displayed):
    test = quiz(*batch, tasks=4)
    assert test.answers == test.correct == [] and test.scores is None
    assert test.labels == [batch.query_y[n, query] for n, query in enumerate(test.queries)]
    for n, right in enumerate((True, False, True)):
        assert f"Task {n + 1} of 4" in test.html and test.html.count("<button") == 5
        asked, *support = test.images(n)
        assert torch.equal(asked, batch.query_x[n, test.queries[n], 0])
        assert torch.equal(torch.stack(support), batch.support_x[n, :, 0])
        label = test.labels[n] if right else (test.labels[n] + 1) % 5
        test._handle_custom_msg({"task": n, "label": label}, [])
        test._handle_custom_msg({"task": n, "label": label}, [])  # a second click on the same task is not an answer
    assert test.correct == [True, False, True] and test.scores is None
    assert f"✓ {test.labels[2] + 1} was right" in test.html
    test.answer((test.labels[3] + 1) % 5)
    assert test.scores.tolist() == [1, 0, 1, 0] and "You recognized 2 of 4." in test.html
    test.answer(0)
    assert len(test.answers) == 4


def test_the_test_asks_different_classes_and_says_what_it_is_made_of(batch, displayed):
    test = quiz(*batch, data=Characters(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), ["A/character01"], GENERATED))
    assert len(test.labels) == 10 and len({*test.labels}) >= 4
    assert "Made from GENERATED" in test.html and "Made from GENERATED" in displayed[0]["text/html"]
    assert quiz(*batch).queries == test.queries and displayed[0][WIDGET]["model_id"] == test.model_id


def test_the_images_of_the_test_are_in_the_order_of_the_labels(batch, displayed):
    order = torch.tensor([3, 1, 4, 0, 2])
    shuffled = quiz(batch.support_x[:, order], batch.support_y[:, order], batch.query_x, batch.query_y)
    assert shuffled.html == quiz(*batch).html
