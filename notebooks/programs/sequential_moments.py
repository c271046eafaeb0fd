"""Does the order of Adam's updates explain the gap to the paper?

    python -m notebooks.programs.sequential_moments RUN_DIR TASKS

Trains with the paper's 5-way recipe, but as the authors' code does it: each task of a meta-batch starts with the second
moments and the step count that the task before it ended with. Then adapts this initialization and the one that ships to
the same test tasks, and prints accuracies and paired differences as JSON, which notebook 08 shows from
pretrained/omniglot_sequential_moments.json. The training takes many hours; if you stop it, the same command continues
it. (For that file, a C++ program with the same arithmetic did the training.)
"""

import json
import sys

import torch

from reptile_helpers.checkpoint import learner_for_test, load_checkpoint, load_pretrained, save_checkpoint
from reptile_helpers.evaluate import evaluate_modes, mean_and_interval
from reptile_helpers.learner import Learner
from reptile_helpers.measure import TASKS_AT_ONCE, TEST_SEED, make_training_tasks, sample_test_tasks
from reptile_helpers.reptile import adapt_one, meta_train
from reptile_helpers.run import open_run
from reptile_helpers.settings import PAPER_5WAY

MODES = ("transductive", "support + one query")


def adapt_in_sequence(model, learner, x, y, batches, inner):
    """Like `adapt_one_by_one`, but Adam's state runs through the tasks; only the weights return to φ."""
    ends = [learner]
    for task in zip(x, y, batches, strict=True):
        start = Learner(learner.weights, ends[-1].second_moment, ends[-1].adam_steps)
        ends.append(adapt_one(model, start, *task, inner))
    weights = {name: torch.stack([end.weights[name] for end in ends[1:]]) for name in learner.weights}
    moments = {name: v[None] for name, v in ends[-1].second_moment.items()}  # `meta_train` takes the mean
    return Learner(weights, moments, ends[-1].adam_steps)


def train_in_sequence(settings, folder):
    """Returns the run and its last checkpoint. One is written every 500 meta-iterations."""
    run = open_run(settings, folder)

    def save(iteration, learner):
        if iteration % 500 == 0 or iteration == settings.iterations:
            save_checkpoint(run.path, run.snapshot(iteration, learner, [], 0.0))

    meta_train(
        run.model, run.learner, make_training_tasks(settings, run.characters, run.state, "cpu"), settings.inner,
        meta_iterations=settings.iterations, meta_batch=settings.meta_batch, epsilon=settings.epsilon,
        generator=run.generator, adapt=adapt_in_sequence, callback=save, start=run.state["iteration"],
    )  # fmt: skip
    return run, load_checkpoint(run.path)


def compare(run, states, shots, tasks):
    """Mode → the accuracies of both checkpoints on the same tasks, and their paired difference, each with its ±."""
    generator, scores = torch.Generator().manual_seed(TEST_SEED), {mode: [] for mode in MODES}
    for done in range(0, tasks, TASKS_AT_ONCE):
        batch = sample_test_tasks(states[0], run.characters, shots, min(TASKS_AT_ONCE, tasks - done), generator)
        both = [
            evaluate_modes(
                run.model, learner_for_test(state), batch, run.settings.test_inner,
                torch.Generator().manual_seed(done), MODES,
            )
            for state in states
        ]  # fmt: skip
        for mode in MODES:
            scores[mode].append(torch.stack([values[mode] for values in both]))
        print(f"{shots}-shot: {done + len(batch.support_x)} tasks", file=sys.stderr, flush=True)
    results = {}
    for mode, parts in scores.items():
        sequential, mean = torch.cat(parts, dim=1)
        columns = {"sequential": sequential, "mean": mean, "sequential minus mean": sequential - mean}
        results[mode] = {name: mean_and_interval(values) for name, values in columns.items()}
    return results


def main(folder, tasks):
    run, state = train_in_sequence(PAPER_5WAY, folder)
    states = state, load_pretrained("omniglot_5way")
    recipe = PAPER_5WAY.to_dict()
    reports = [
        {"ways": recipe["ways"], "tasks": tasks, "seed": TEST_SEED,
         "results": {f"{shots}-shot": compare(run, states, shots, tasks)}, "configuration": recipe}
        for shots in (1, 5)
    ]  # fmt: skip
    print(json.dumps(reports, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
