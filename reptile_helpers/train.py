"""Long meta-training runs that can be stopped at any moment: python -m reptile_helpers.train --help

The newest state is always in RUN_DIR/checkpoint.pt. The same command, started again, goes on from there, and ends with
the same bits as a run that was never stopped (on a CPU, the same machine and the same number of threads).

Under torchrun, several processes share every meta-batch: torchrun --nproc-per-node=2 -m reptile_helpers.train ...
"""

import argparse
import json
import os
import signal
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path

import torch

from reptile_helpers.characters import GENERATED, OMNIGLOT, SETS, Characters, load_characters, with_rotations
from reptile_helpers.checkpoint import learner_of, load_checkpoint, save_checkpoint, shapes
from reptile_helpers.distributed import adapt_shared, from_the_first, processes, rank_and_ranks
from reptile_helpers.evaluate import evaluate, evaluate_modes, mean_and_interval
from reptile_helpers.generated import generate_characters
from reptile_helpers.models import omniglot_cnn, sine_mlp
from reptile_helpers.reptile import InnerLoop, Learner, adapt_compiled, adapt_together, meta_train
from reptile_helpers.tasks import FewShotTasks, SineTasks, at_least_one, positive

# The authors' settings (openai/supervised-reptile, in its README and its sine example).
RECIPES = {
    "5-way": {
        "optimizer": "adam", "lr": 1e-3, "inner_batch": 10, "inner_steps": 5, "shots": 10,
        "meta_batch": 5, "epsilon": 1.0, "iterations": 100_000, "test_batch": 5, "test_steps": 50,
    },
    "20-way": {
        "optimizer": "adam", "lr": 5e-4, "inner_batch": 20, "inner_steps": 10, "shots": 10,
        "meta_batch": 5, "epsilon": 1.0, "iterations": 200_000, "test_batch": 10, "test_steps": 50,
    },
    "sine": {
        "optimizer": "sgd", "lr": 0.02, "inner_batch": 10, "inner_steps": 5, "shots": 50,
        "meta_batch": 1, "epsilon": 0.1, "iterations": 30_000, "test_batch": 10, "test_steps": 32,
    },
}  # fmt: skip
CURVE_POINTS = 50


def configuration(data, ways=None, seed=0, **changes):
    """What a run is: the authors' recipe for this data and these ways, with changes. A dict of plain values."""
    if data not in ("omniglot", "generated", "sine"):
        raise ValueError(f"data is {data!r}; it must be omniglot, generated or sine")
    if (data == "sine") != (ways is None) or ways not in (None, 5, 20):
        raise ValueError(f"ways is {ways!r} for {data}; it must be 5 or 20 for characters, and nothing for sine waves")
    recipe = RECIPES["sine" if ways is None else f"{ways}-way"]
    unknown = [name for name in changes if name not in recipe]
    if unknown:
        raise ValueError(f"{unknown[0]} is no setting; there are {', '.join(recipe)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}; it must be a whole number of at least 0")
    config = {"data": data, "ways": ways, "seed": seed} | recipe | changes
    inner_loops(config)  # each looks at its settings
    at_least_one(**{name: config[name] for name in ("shots", "meta_batch", "iterations")})
    positive(epsilon=config["epsilon"])
    return config


def find_characters(config):
    if config["data"] == "sine":
        return None
    if config["data"] == "generated":
        return Characters(generate_characters(), [f"Generated/{n}" for n in range(sum(SETS.values()))], GENERATED)
    characters = load_characters()
    if characters.name != OMNIGLOT:
        raise FileNotFoundError("Omniglot is neither here nor can it be downloaded; data could be generated instead.")
    return characters


def test_tasks(state, characters, shots, tasks, generator):
    """A TaskBatch of test tasks: new waves, or characters of the state's test classes with one query per class."""
    if characters is None:
        return SineTasks(shots=shots).sample(tasks, generator)
    images = characters.images[state["test_classes"]].to(generator.device)
    return FewShotTasks(images, state["configuration"]["ways"], shots).sample(tasks, generator)


def inner_loops(config):
    """The InnerLoop of meta-training, and that of the test."""
    return (
        InnerLoop(config["optimizer"], config["lr"], config["inner_steps"], config["inner_batch"]),
        InnerLoop(config["optimizer"], config["lr"], config["test_steps"], config["test_batch"]),
    )


@contextmanager
def stop_requests():
    """A list that is empty until somebody asks the process to stop: Ctrl-C, Jupyter's stop button, `kill`.

    Python's usual KeyboardInterrupt could come in the middle of an outer step, and half a step must not be saved.
    """
    requests = []
    before = {s: signal.signal(s, lambda number, _: requests.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def default_dtype(dtype):
    """PyTorch's default dtype for a while: what weights and tasks have, here and everywhere."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def tf32_products():
    """Products of float32 matrices in TF32 for a while: what PyTorch's convolutions on a GPU are anyway."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def train(config, run_dir, device="cpu", checkpoint_seconds=180):
    """Meta-train as `configuration` says, or go on from `run_dir`/checkpoint.pt. Returns the checkpoint at the end.

    All is in PyTorch's default dtype. On a GPU a meta-iteration is compiled and a CUDA graph, with products in TF32,
    unless processes share it. With several processes each calls this alike; the first does the reading, writing and
    watching; the others return None.

    A checkpoint is written every `checkpoint_seconds`, at the end, and on Ctrl-C, which then raises KeyboardInterrupt.
    It is also written, as of the last good meta-iteration, when an inner loop diverges (FloatingPointError), or when
    another process dies (ConnectionError).
    The curve in it has up to 50 points, 100 meta-iterations apart or more: accuracy (or squared error) on 200 test
    tasks, 1-shot (or ten points), transductive, after as many inner steps as in meta-training. It is there to be looked
    at; nothing is chosen by it.

    Raises ValueError if the checkpoint there is damaged, or of another configuration or dtype; nothing is overwritten
    then. OSError if the checkpoint at the end cannot be written; before that, a warning says so.
    """
    rank, ranks = rank_and_ranks()
    if ranks > config["meta_batch"]:
        raise ValueError(f"{ranks} processes cannot share a meta-batch of {config['meta_batch']} tasks; start fewer")
    path = Path(run_dir) / "checkpoint.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        for half_written in path.parent.glob(f".{path.name}-*"):  # a killed process leaves one behind
            half_written.unlink()
    characters = find_characters(config)
    torch.manual_seed(config["seed"])
    model = (sine_mlp() if characters is None else omniglot_cnn(config["ways"])).to(device)
    generator = torch.Generator(device).manual_seed(config["seed"])
    if rank:
        state = None
    elif path.exists():
        state = load_checkpoint(path)
        different = [name for name in config if state["configuration"].get(name) != config[name]]
        if different or len(state["configuration"]) != len(config):
            said = ", ".join(f"{name} {state['configuration'].get(name)} (now {config[name]})" for name in different)
            raise ValueError(f"{path} belongs to another run: {said}. Choose another folder, or delete this one.")
        if shapes(state["phi"]) != shapes(dict(model.named_parameters())):
            raise ValueError(f"{path} holds weights of another network or dtype. Choose another folder.")
    else:
        train_classes, test_classes = characters.paper_split() if characters else torch.empty(2, 0, dtype=torch.int64)
        learner = Learner.of(model)
        state = {
            "phi": learner.weights, "second_moment": learner.second_moment, "adam_steps": 0,
            "train_classes": train_classes, "test_classes": test_classes,
            "configuration": config, "iteration": 0, "generator": generator.get_state(), "curve": [], "seconds": 0.0,
        }  # fmt: skip
    state = from_the_first(state)
    if len(state["generator"]) != len(generator.get_state()):
        raise ValueError(f"{path} is of a run on another kind of device than {device}; it can only go on there.")
    generator.set_state(state["generator"])
    learner = learner_of(state, device)

    if characters is None:
        tasks = SineTasks(shots=config["shots"])
    else:
        images = with_rotations(characters.images[state["train_classes"]]).to(device)
        tasks = FewShotTasks(images, config["ways"], config["shots"])
    seeded = torch.Generator(device).manual_seed
    watched = test_tasks(state, characters, 1 if characters else 10, 200, seeded(7))
    inner, _ = inner_loops(config)
    recording = generator.device.type == "cuda" and ranks == 1
    adapt = adapt_shared if ranks > 1 else adapt_compiled if recording else adapt_together
    point_every = max(100, -(-config["iterations"] // CURVE_POINTS))
    start, seconds = time.perf_counter(), state["seconds"]
    last_saved = start

    def save(last):
        try:
            save_checkpoint(path, state)
        except OSError as error:
            if last:
                raise
            warnings.warn(f"{error}. Training goes on; the next attempt is in {checkpoint_seconds} s.", stacklevel=2)

    def after(iteration, learner):
        nonlocal last_saved
        if rank:  # the first process does what follows for all
            return
        now = time.perf_counter()
        state.update(
            phi=learner.weights, second_moment=learner.second_moment, adam_steps=learner.adam_steps,
            iteration=iteration, generator=generator.get_state(), seconds=seconds + now - start,
        )  # fmt: skip
        if iteration % point_every == 0 or iteration == config["iterations"]:
            scores = evaluate(model, learner, watched, inner, seeded(0))
            state["curve"].append((iteration, *mean_and_interval(scores)))
        last = bool(requests) or iteration == config["iterations"]
        if last or now - last_saved >= checkpoint_seconds:
            save(last)
            last_saved = time.perf_counter()  # not `now`: a disk slower than that would leave no time to train
        if requests and iteration < config["iterations"]:
            raise KeyboardInterrupt(f"stopped after {iteration} meta-iterations; the same call goes on from there")

    with (
        stop_requests() as requests,
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere if rank else sys.stderr),  # one progress bar is enough
        tf32_products() if recording else nullcontext(),
    ):
        try:
            meta_train(
                model, learner, tasks, inner, meta_iterations=config["iterations"], meta_batch=config["meta_batch"],
                epsilon=config["epsilon"], generator=generator, callback=after, start=state["iteration"],
                adapt=adapt, cuda_graph=recording,
            )  # fmt: skip
        except (FloatingPointError, ConnectionError) as error:
            if rank == 0:
                save(last=True)
            raise type(error)(f"{error} The state before that is in {path}.") from error
    return load_checkpoint(path) if rank == 0 else None


def learner_for_test(state, device="cpu"):
    """The Learner in a checkpoint, with Adam's second moments as the batches of its test need them.

    The authors add up the losses of a batch, and we take their mean. To Adam the two are the same, as long as all
    batches are of one size. The test's are smaller: its gradients, added up, are small beside moments from larger
    batches, and so are its steps. With means it takes larger moments to say the same.
    """
    config, learner = state["configuration"], learner_of(state, device)
    scale = (config["inner_batch"] / config["test_batch"]) ** 2
    learner.second_moment = {name: scale * v for name, v in learner.second_moment.items()}
    return learner


def test(state, tasks, device="cpu", seed=77):
    """What a checkpoint is worth, as a dict for JSON: mean and half-width of the 95 % interval over new tasks.

    Omniglot: {"1-shot": {mode: [mean, half-width]}, "5-shot": …}, shares of right answers; sine: squared error.
    Everything is in PyTorch's default dtype, which must be that of the checkpoint.
    """
    at_least_one(tasks=tasks)
    config = state["configuration"]
    characters = find_characters(config)
    model = (sine_mlp() if characters is None else omniglot_cnn(config["ways"])).to(device)
    learner = learner_for_test(state, device)
    generator = torch.Generator(device).manual_seed(seed)
    results = {}
    for shots in (1, 5) if characters else (10,):
        modes = None
        parts = [min(500, tasks - done) for done in range(0, tasks, 500)]  # 10,000 tasks at once would take 1 GB
        for part in parts:
            batch = test_tasks(state, characters, shots, part, generator)
            scores = evaluate_modes(model, learner, batch, inner_loops(config)[1], generator)
            modes = scores if modes is None else {mode: torch.cat([modes[mode], scores[mode]]) for mode in scores}
        results[f"{shots}-shot"] = {mode: mean_and_interval(values) for mode, values in modes.items()}
    return results


def usable_device(name):
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"PyTorch cannot use {name!r} here: {str(error).splitlines()[0]}") from error
    return name


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m reptile_helpers.train", description=__doc__)
    parser.add_argument("--data", required=True, choices=["omniglot", "generated", "sine"])
    parser.add_argument("--ways", type=int, choices=[5, 20], help="for omniglot and generated")
    parser.add_argument("--run-dir", required=True, help="the folder for checkpoint.pt and results.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, help="default: the paper's recipe")
    parser.add_argument("--lr", type=float, help="the inner learning rate; default: the paper's recipe")
    parser.add_argument("--device", type=usable_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--checkpoint-seconds", type=float, default=180)
    parser.add_argument("--test-tasks", type=int, default=1000, help="at the end; 0: no test; the paper has 10,000")
    options = parser.parse_args(arguments)
    if options.test_tasks < 0 or options.test_tasks == 1:
        parser.error(f"--test-tasks is {options.test_tasks}; it must be 0, or at least 2 for an interval")
    changes = {name: value for name in ("iterations", "lr") if (value := getattr(options, name)) is not None}
    try:
        config = configuration(options.data, options.ways, options.seed, **changes)
        with default_dtype(getattr(torch, options.dtype)):
            with processes(options.device) as device:
                state = train(config, options.run_dir, device, options.checkpoint_seconds)
                _, ranks = rank_and_ranks()
            if options.test_tasks and state:
                results = test(state, options.test_tasks, device)
    except ValueError as problem:
        parser.error(str(problem))
    except (KeyboardInterrupt, FloatingPointError, OSError) as problem:
        sys.exit(str(problem))
    if options.test_tasks and state:
        report = {
            "configuration": config,
            "meta-training": {
                "seconds": round(state["seconds"]), "machine": machine(device), "processes": ranks,
                "dtype": options.dtype,
            },
            "test": {"tasks": options.test_tasks, "seed": 77, "results": results},
        }  # fmt: skip
        Path(options.run_dir, "results.json").write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps(report["test"], indent=1))


def machine(device):
    name = torch.cuda.get_device_name(device) if device != "cpu" else f"CPU, threads: {torch.get_num_threads()}"
    return f"{name}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
