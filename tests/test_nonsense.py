"""What every public function does with nonsense: the wrong type, shape or sign, and nothing at all.

Each row ends in an error whose text names what is wrong; none goes through silently.
"""

import inspect
import pkgutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import ipywidgets
import pytest
import torch

import reptile_helpers
from reptile_helpers import (
    arguments,
    checkpoint,
    distributed,
    drawings,
    evaluate,
    gpu,
    learner,
    measure,
    models,
    plots,
    reptile,
    run,
    settings,
    stacked,
    train,
    widgets,
)
from reptile_helpers.arguments import require_positive, require_whole
from reptile_helpers.characters import OMNIGLOT, Characters, load_characters, with_rotations
from reptile_helpers.files import find_data_root, write_atomically
from reptile_helpers.generated import generate_characters
from reptile_helpers.learner import InnerLoop, Learner
from reptile_helpers.omniglot import load_omniglot
from reptile_helpers.omniglot_files import find_sets
from reptile_helpers.quiz import quiz
from reptile_helpers.settings import PAPER_5WAY
from reptile_helpers.tasks import FewShotTasks, SineTasks, TaskBatch

INNER = InnerLoop("sgd", lr=0.02, steps=2, batch_size=3)
NAN = float("nan")


def seeded():
    return torch.Generator().manual_seed(0)


def images(classes=5, drawings=4):
    return torch.zeros(classes, drawings, 28, 28, dtype=torch.uint8)


MODEL = models.sine_mlp()
PHI = Learner.of(MODEL).weights
THETA = {name: p.expand(2, *p.shape) for name, p in PHI.items()}
WAVES = SineTasks().sample(2, seeded())
NO_WAVES = TaskBatch(*(t[:0] for t in WAVES))
FLAT = WAVES._replace(query_y=WAVES.query_y[..., 0])  # [tasks, queries] for outputs [tasks, queries, 1]
IMAGES = FewShotTasks(images(), 3, 2).sample(2, seeded())
ORDER = torch.zeros(2, 2, 3, dtype=torch.int64)


def meta_train(function=reptile.meta_train, **changes):
    options = {"model": MODEL, "learner": Learner.of(MODEL), "tasks": SineTasks(), "inner": INNER}
    options |= {"meta_iterations": 1, "meta_batch": 1, "generator": seeded()}
    return function(**options | changes)


def scores(batch, inner=INNER, model=MODEL, **options):
    return evaluate.evaluate(model, Learner.of(model), batch, inner, seeded(), **options)


def path(inner=INNER, examples=10):
    return evaluate.adaptation_path(
        MODEL, Learner.of(MODEL), WAVES.support_x[0, :examples], WAVES.support_y[0, :examples], inner, seeded()
    )


def adapt(function, x=WAVES.support_x, y=WAVES.support_y, batches=ORDER):
    return function(MODEL, Learner.of(MODEL), x, y, batches, INNER)


def some(number):
    return Characters(images(number), [f"A/character{n:02}" for n in range(number)], OMNIGLOT)


ROWS = [
    # tasks
    (SineTasks, lambda: SineTasks(shots="10"), "shots is '10'; it must be a whole number"),
    (SineTasks, lambda: SineTasks(queries=0), "queries is 0; it must be a whole number of at least 1"),
    (SineTasks, lambda: SineTasks().sample(0, seeded()), "tasks is 0"),
    (SineTasks, lambda: SineTasks().sample(1, None), "NoneType"),
    (FewShotTasks, lambda: FewShotTasks(images(), 6, 1), "6 ways were asked for, but there are only 5"),
    (FewShotTasks, lambda: FewShotTasks(images(), 5, 4), "has only 4 drawings"),
    (FewShotTasks, lambda: FewShotTasks(images(0), 5, 1), "there are only 0 classes"),
    (FewShotTasks, lambda: FewShotTasks(images().float(), 5, 1), "must be a uint8 tensor"),
    (FewShotTasks, lambda: FewShotTasks(images()[0], 5, 1), "must be a uint8 tensor"),
    (FewShotTasks, lambda: FewShotTasks(images(), -5, 1), "ways is -5"),
    (FewShotTasks, lambda: FewShotTasks(images(), 5, 1).sample(-1, seeded()), "tasks is -1"),
    (arguments.require_whole, lambda: arguments.require_whole(shots=True), "shots is True"),
    (arguments.require_positive, lambda: arguments.require_positive(lr=NAN), "lr is nan"),
    (arguments.require_positive, lambda: arguments.require_positive(lr="1"), "lr is '1'"),
    (arguments.require_fraction, lambda: arguments.require_fraction(epsilon=7), "epsilon is 7"),
    # models
    (models.omniglot_cnn, lambda: models.omniglot_cnn(0), "ways is 0"),
    (models.omniglot_cnn, lambda: models.omniglot_cnn(5)(torch.rand(2, 28, 28, 1)), "channels"),
    (models.article_cnn, lambda: models.article_cnn(2.5), "ways is 2.5"),
    # stacked
    (stacked.forward_tasks, lambda: stacked.forward_tasks(MODEL, THETA, WAVES.support_x[:1]), "must match"),
    (stacked.forward_tasks, lambda: stacked.forward_tasks(MODEL, PHI, WAVES.support_x), "Dimension out of range"),
    (stacked.forward_tasks, lambda: stacked.forward_tasks(torch.nn.GELU(), {}, IMAGES[0], 1), "stacked: .*GELU"),
    (stacked.forward_tasks, lambda: stacked.forward_tasks(MODEL, {"w": PHI["0.bias"]}, WAVES[0]), "no parameter"),
    (stacked.find_obstacle, lambda: stacked.find_obstacle(MODEL, THETA, None), "dim"),
    # reptile
    (InnerLoop, lambda: InnerLoop("Adam", 0.1, 1, 1), "optimizer is 'Adam'"),
    (InnerLoop, lambda: InnerLoop("sgd", "0.1", 1, 1), "lr is '0.1'"),
    (InnerLoop, lambda: InnerLoop("sgd", -0.1, 1, 1), "lr is -0.1"),
    (InnerLoop, lambda: InnerLoop("sgd", 0.1, 0, 1), "steps is 0"),
    (InnerLoop, lambda: InnerLoop("sgd", 0.1, 1, None), "batch_size is None"),
    (Learner, lambda: Learner.of(None), "named_parameters"),
    (learner.call_with, lambda: learner.call_with(MODEL, {"w": PHI["0.bias"]}, WAVES[0]), "w"),
    (learner.check_shapes, lambda: learner.check_shapes({"w": torch.ones(2)}, {"w": torch.ones(3, 1)}), "w"),
    (learner.task_loss, lambda: learner.task_loss(torch.ones(3, 1), torch.ones(3)), r"outputs are \[3, 1\]"),
    (learner.task_loss, lambda: learner.task_loss(torch.ones(3, 2), torch.full((3,), 2)), "out of bounds"),
    (learner.minibatches, lambda: learner.minibatches(1, 0, INNER, seeded()), "examples is 0"),
    (learner.minibatches, lambda: learner.minibatches(0, 1, INNER, seeded()), "tasks is 0"),
    (reptile.adapt_one_by_one, lambda: adapt(reptile.adapt_one_by_one, y=WAVES.support_y[:1]), "shorter"),
    (stacked.adapt_together, lambda: adapt(stacked.adapt_together, y=WAVES.support_y[:1]), "x has 2 tasks, y 1"),
    (stacked.adapt_together, lambda: adapt(stacked.adapt_together, batches=ORDER[:1]), "batches 1"),
    (gpu.make_compiled_adapt, lambda: adapt(gpu.make_compiled_adapt(), batches=ORDER[:1]), "batches 1"),
    (gpu.meta_train_on_gpu, lambda: meta_train(gpu.meta_train_on_gpu), "the generator is on cpu; it must be on a GPU"),
    (gpu.meta_train_on_gpu, lambda: meta_train(gpu.meta_train_on_gpu, outer_optimizer=torch.optim.SGD),
     "meta_train_on_gpu does not accept outer_optimizer; use meta_train for that"),
    (gpu.meta_train_on_gpu, lambda: meta_train(gpu.meta_train_on_gpu, adapt=1, speed_up=2), "adapt and speed_up"),
    (reptile.adapt_one, lambda: reptile.adapt_one(MODEL, Learner.of(MODEL), *WAVES[:2], None, INNER), "NoneType"),
    (stacked.adapt_together, lambda: adapt(stacked.adapt_together, batches=ORDER + 10), "out of bounds"),
    (reptile.outer_step, lambda: reptile.outer_step(PHI, PHI, 0.5), "it must be .tasks"),
    (reptile.outer_step, lambda: reptile.outer_step(PHI, {n: p[:0] for n, p in THETA.items()}, 1), "it must be .tasks"),
    (reptile.outer_step, lambda: reptile.outer_step(PHI, THETA, NAN), "epsilon is nan"),
    (reptile.outer_step, lambda: reptile.outer_step(PHI, THETA, -1), "epsilon is -1"),
    (reptile.outer_step, lambda: reptile.outer_step(PHI, THETA, 2), "epsilon is 2"),
    (reptile.outer_step, lambda: reptile.outer_step(PHI, {}, 1), "0.weight"),
    (reptile.outer_gradient, lambda: reptile.outer_gradient(PHI, PHI), "it must be .tasks"),
    (learner.has_diverged, lambda: learner.has_diverged(PHI, {}), "0.weight"),
    (reptile.meta_train, lambda: meta_train(meta_iterations=0), "meta_iterations is 0"),
    (reptile.meta_train, lambda: meta_train(meta_batch=-1), "meta_batch is -1"),
    (reptile.meta_train, lambda: meta_train(epsilon=2), "epsilon is 2; .* from 0 to 1"),
    (reptile.meta_train, lambda: meta_train(epsilon="1"), "epsilon is '1'"),
    (reptile.meta_train, lambda: meta_train(start=2), "start is 2; it must be at most meta_iterations, which is 1"),
    (reptile.meta_train, lambda: meta_train(learner=MODEL), "weights"),
    (reptile.meta_train, lambda: meta_train(tasks=[1]), "sample"),
    # evaluate
    (evaluate.predict, lambda: evaluate.predict(MODEL, THETA, *WAVES[::2], "all"), "mode is 'all'; it must be one of"),
    (evaluate.evaluate_modes, lambda: scores(NO_WAVES), "tasks is 0"),
    (evaluate.evaluate, lambda: scores(FLAT), r"predicted is \[8, 50, 1\], query_y \[8, 50\]"),
    (evaluate.evaluate, lambda: scores(IMAGES, model=models.omniglot_cnn(2)), "out of bounds"),
    (evaluate.evaluate, lambda: scores(WAVES, mode="x"), "mode is 'x'"),
    (evaluate.adaptation_path, lambda: path(examples=0), "examples is 0"),
    (evaluate.with_ways, lambda: evaluate.with_ways(Learner.of(models.omniglot_cnn(5)), 6), "ways is 6"),
    (evaluate.with_ways, lambda: evaluate.with_ways(Learner.of(models.omniglot_cnn(5)), -2), "ways is -2"),
    (evaluate.nearest_neighbour, lambda: evaluate.nearest_neighbour(WAVES), "it must be class labels"),
    (evaluate.accuracy, lambda: evaluate.accuracy(torch.ones(2, 1), torch.ones(2, 5)), "must have the same shape"),
    (evaluate.accuracy, lambda: evaluate.accuracy(torch.ones(2, 0), torch.ones(2, 0)), "at least one query"),
    (evaluate.squared_error, lambda: evaluate.squared_error(torch.ones(2, 5), torch.ones(2, 5, 1)), "the same shape"),
    (evaluate.mean_and_interval, lambda: evaluate.mean_and_interval(torch.ones(0)), "at least 2 tasks"),
    (evaluate.mean_and_interval, lambda: evaluate.mean_and_interval(torch.ones(3, 2)), "at least 2 tasks"),
    (evaluate.mean_and_interval, lambda: evaluate.mean_and_interval(torch.tensor([1, NAN])), "1 of 2 scores"),
    # characters, generated
    (Characters, lambda: some(7).paper_split(), "7 classes"),
    (Characters, lambda: some(0).omniglot_split(), "0 classes"),
    (with_rotations, lambda: with_rotations(torch.ones(3, 28, 28)), r"\[class, drawing, H, H\]"),
    (with_rotations, lambda: with_rotations(torch.ones(3, 2, 28, 27)), r"\[class, drawing, H, H\]"),
    (load_characters, lambda: load_characters("nowhere"), "nowhere, which does not exist"),
    (load_characters, lambda: load_characters(__file__), "which is a file"),
    (load_characters, lambda: load_characters(3), "root is 3; it must be the path of a folder"),
    (Characters, lambda: some(1623).paper_split(seed=0.5), "seed is 0.5; it must be a whole number of at least 0"),
    (Characters, lambda: Characters(images(3), ["A/character01"], OMNIGLOT), "names has 1 entries; it must have 3"),
    (with_rotations, lambda: with_rotations(None), "images is NoneType; it must be a tensor"),
    (generate_characters, lambda: generate_characters(0), "classes is 0; it must be a whole number of at least 1"),
    (generate_characters, lambda: generate_characters(2.0), "classes is 2.0; it must be a whole number"),
    (generate_characters, lambda: generate_characters(drawings=True), "drawings is True; it must be a whole number"),
    (generate_characters, lambda: generate_characters(seed=-1), "seed is -1; it must be a whole number of at least 0"),
    # omniglot
    (load_omniglot, lambda: load_omniglot("nowhere"), "nowhere, which does not exist"),
    (find_sets, lambda: find_sets(Path("nowhere")), "nowhere"),
    # drawings
    (drawings.prepare, lambda: drawings.prepare([[[NAN, 0.5]]]), "are not strokes"),
    (drawings.prepare, lambda: drawings.prepare([[[0.5, 1.5]]]), "are not strokes"),
    (drawings.prepare, lambda: drawings.prepare([[0.5, 0.5]]), "are not strokes"),
    (drawings.prepare, lambda: drawings.prepare("A"), "are not strokes"),
    (drawings.require_strokes, lambda: drawings.require_strokes(None), "are not strokes"),
    (drawings.save_drawings, lambda: drawings.save_drawings("never.json", {"A": [[[2, 2]]]}), "are not strokes"),
    (drawings.load_drawings, lambda: drawings.load_drawings("nowhere.json"), "there is no file nowhere.json"),
    (drawings.strokes_of, lambda: drawings.strokes_of(torch.ones(1, 28, 28)), r"must be float \[28, 28\]"),
    (drawings.strokes_of, lambda: drawings.strokes_of(images()[0, 0]), "torch.uint8"),
    (drawings.strokes_of, lambda: drawings.strokes_of([[0.0]]), "image is list; it must be float"),
    (drawings.save_drawings, lambda: drawings.save_drawings("never.json", [[[0, 0]]]), "are not drawings"),
    (drawings.save_drawings, lambda: drawings.save_drawings("never.json", {1: []}), "are not drawings"),
    # arguments, files
    (require_whole, lambda: require_whole(ways=0), "ways is 0; it must be a whole number of at least 1"),
    (require_positive, lambda: require_positive(lr=NAN), "lr is nan; it must be a positive number"),
    (find_data_root, lambda: find_data_root("nowhere"), "nowhere, which does not exist"),
    (write_atomically, lambda: write_atomically("nowhere/results.json", b""), "results.json cannot be written"),
    # checkpoint
    (checkpoint.save_checkpoint, lambda: checkpoint.save_checkpoint("nowhere/checkpoint.pt", {}), "cannot be written"),
    (checkpoint.load_checkpoint, lambda: checkpoint.load_checkpoint("nowhere.pt"), "There is no checkpoint nowhere.pt"),
    (checkpoint.load_checkpoint, lambda: checkpoint.load_checkpoint(__file__), "is not a checkpoint"),
    (checkpoint.load_pretrained, lambda: checkpoint.load_pretrained(""), "it must be one of omniglot_5way"),
    (checkpoint.load_pretrained, lambda: checkpoint.load_pretrained("../omniglot_5way"), "it must be one of"),
    (checkpoint.learner_of, lambda: checkpoint.learner_of({}), "phi"),
    # train, distributed
    (settings.RunSettings, lambda: settings.RunSettings(), "missing"),
    (settings.RunSettings, lambda: replace(PAPER_5WAY, ways=1), "ways is 1"),
    (checkpoint.settings_of, lambda: checkpoint.settings_of({"configuration": {"lr": 1}}), "another version"),
    (checkpoint.learner_for_test, lambda: checkpoint.learner_for_test({}), "configuration"),
    (run.train, lambda: run.train({}, "nowhere"), "meta_batch"),
    (run.open_run, lambda: run.open_run({}, "nowhere"), "data"),
    (measure.measure, lambda: measure.measure({"configuration": PAPER_5WAY.to_dict()}, 1), "tasks is 1"),
    (train.usable_device, lambda: train.usable_device("meta"), "PyTorch cannot use 'meta' here"),
    (train.describe_machine, lambda: train.describe_machine("gpu"), "gpu"),
    (distributed.adapt_shared, lambda: adapt(distributed.adapt_shared), "process group"),
    # plots, widgets
    (plots.render, lambda: plots.render(None, "alt", "caption"), "canvas"),
    (plots.image_grid, lambda: plots.image_grid([]), "no images"),
    (plots.image_grid, lambda: plots.image_grid(images()[:1], ["one", "two"]), "one label for each row"),
    (plots.interval_plot, lambda: plots.interval_plot({}, "accuracy"), "no results"),
    (plots.label_lines, lambda: plots.label_lines(None), "get_xlim"),
    (
        plots.probability_rows,
        lambda: plots.probability_rows(None, {"x": torch.ones(2, 28, 28)}, {"p": torch.ones(3, 3)}),
        "same number of rows",
    ),
    (widgets.predict, lambda: widgets.predict("How many?"), "needs choices"),
    (widgets.play_button, lambda: widgets.play_button(None), "min"),
    (quiz, lambda: quiz(torch.ones(3, 2, 1, 28, 28), torch.zeros(3, 2).long(), None, None), "one example of each"),
    (widgets.explore, lambda: widgets.explore(lambda a: {}, a=3), "value"),
    (widgets.explore, lambda: widgets.explore(lambda a: {}, a=ipywidgets.IntSlider()), "text/html"),
]
# What takes no input, or takes it from the functions above.
WITHOUT = {
    "sine_mlp", "TaskBatch",  # models, tasks
    "start_inner_loop", "finish_inner_loop", "advise_on_divergence", "keep_parameters",  # learner
    "loss_of_tasks", "forward_stacked",  # stacked
    "convolve_as_products", "compile_or_keep", "use_if_possible", "record", "use_tf32",  # gpu
    "describe_shapes",  # checkpoint
    "find_characters", "make_model", "make_training_tasks", "sample_test_tasks",  # measure
    "RefusedRun", "Stopped", "collect_stop_requests", "lock_folder", "Run",  # interrupts, run
    "make_parser", "parse", "main", "finish", "print_table", "print_progress", "use_default_dtype",  # train
    "join_processes", "get_rank_and_world_size", "broadcast_from_first", "fail_together",  # distributed
    "OmniglotNotFound", "DrawingSet", "damage",  # omniglot
    "generated_characters",  # characters
    "show", "use_style", "our_style", "freeze_layout", "made_from",  # plots
    "Picture", "Prediction", "show_errors", "display_with_still", "Board", "Quiz",  # widgets, board, quiz
}  # fmt: skip


@pytest.mark.parametrize("function, call, message", ROWS, ids=[f"{i} {row[0].__name__}" for i, row in enumerate(ROWS)])
def test_nonsense_is_refused_in_words(function, call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {name: p.clone() for name, p in PHI.items()}
    with pytest.raises(Exception, match=message):
        call()
    assert not list(tmp_path.iterdir()), "something was written"
    assert all(torch.equal(p, before[name]) for name, p in PHI.items()), "φ was changed"


def test_no_public_function_is_left_out():
    public = set()
    for module in pkgutil.iter_modules(reptile_helpers.__path__):
        module = import_module(f"reptile_helpers.{module.name}")
        public |= {
            name for name, value in vars(module).items()
            if (inspect.isfunction(value) or inspect.isclass(value))
            and value.__module__ == module.__name__ and not name.startswith("_")
        }  # fmt: skip
    covered = {row[0].__name__ for row in ROWS}
    assert not covered & WITHOUT and public == covered | WITHOUT
