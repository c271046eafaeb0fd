"""Does it matter whether a batch's losses are summed or averaged?

    python -m notebooks.programs.sum_or_mean WAYS TASKS

Evaluates the initialization that ships, omniglot_WAYSway, on the same test tasks in both ways: with Adam's second
moments scaled as the authors' sums need them (`learner_for_test`), and as they are (`learner_of`). Prints accuracies
and paired differences as JSON, which notebook 08 shows from pretrained/omniglot_sum_or_mean.json.
"""

import json
import sys

import torch

from reptile_helpers.characters import load_characters
from reptile_helpers.checkpoint import learner_for_test, learner_of, load_pretrained, settings_of
from reptile_helpers.evaluate import evaluate_modes, mean_and_interval
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.tasks import FewShotTasks

MODES = ("transductive", "support + one query")


def main(ways, tasks):
    state = load_pretrained(f"omniglot_{ways}way")
    images = load_characters().images[state["test_classes"]]
    settings, model, results = settings_of(state), omniglot_cnn(ways), {}
    modes = MODES if ways == 5 else MODES[:1]  # the other is twenty times as much work with 20 ways
    for shots in (1, 5):
        batch = FewShotTasks(images, ways, shots).sample(tasks, torch.Generator().manual_seed(77))
        sums, means = (
            evaluate_modes(model, learner, batch, settings.test_inner, torch.Generator().manual_seed(0), modes)
            for learner in (learner_for_test(state), learner_of(state))
        )
        results[f"{shots}-shot"] = {
            mode: {
                "sum": mean_and_interval(sums[mode]),
                "mean": mean_and_interval(means[mode]),
                "sum minus mean": mean_and_interval(sums[mode] - means[mode]),
            }
            for mode in modes
        }
    print(json.dumps({"ways": ways, "tasks": tasks, "seed": 77, "results": results}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
