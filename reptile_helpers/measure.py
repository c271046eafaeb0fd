"""The tasks that a run trains on and is tested on, and the test itself."""

import torch
from torch import nn

from reptile_helpers.arguments import require_whole
from reptile_helpers.characters import Characters, generated_characters, load_characters, with_rotations
from reptile_helpers.checkpoint import learner_for_test, settings_of
from reptile_helpers.evaluate import evaluate_modes, mean_and_interval
from reptile_helpers.models import omniglot_cnn, sine_mlp
from reptile_helpers.settings import RunSettings
from reptile_helpers.tasks import FewShotTasks, SineTasks, TaskBatch

TEST_SEED = 77
TASKS_AT_ONCE = 500  # test tasks sampled at once: 10,000 would need 1 GB


def measure(state: dict, tasks: int, device: str = "cpu", seed: int = TEST_SEED) -> dict:
    """How good a checkpoint is, as a dict for JSON: mean and half-width of the 95 % interval over new tasks.

    Omniglot: {"1-shot": {mode: [mean, half-width]}, "5-shot": …}, shares of correct answers. Sine waves: squared error.
    Everything is in PyTorch's default dtype, which must be that of the checkpoint.
    """
    require_whole(minimum=2, tasks=tasks)
    settings = settings_of(state)
    characters = find_characters(settings)
    model = make_model(settings).to(device)
    learner, generator = learner_for_test(state, device), torch.Generator(device).manual_seed(seed)
    results = {}
    for shots in (1, 5) if characters else (10,):
        parts = []
        for done in range(0, tasks, TASKS_AT_ONCE):
            count = min(TASKS_AT_ONCE, tasks - done)
            batch = sample_test_tasks(state, characters, shots, count, generator)
            parts.append(evaluate_modes(model, learner, batch, settings.test_inner, generator))
        scores = {mode: torch.cat([part[mode] for part in parts]) for mode in parts[0]}
        results[f"{shots}-shot"] = {mode: mean_and_interval(values) for mode, values in scores.items()}
    return results


def find_characters(settings: RunSettings) -> Characters | None:
    """The characters that a run uses; None for sine waves. Raises FileNotFoundError where Omniglot cannot be had."""
    if settings.data == "sine":
        return None
    return generated_characters() if settings.data == "generated" else load_characters(allow_generated=False)


def make_model(settings: RunSettings) -> nn.Module:
    """The network of a run, with new weights: a small MLP for sine waves, else the CNN for so many ways."""
    return sine_mlp() if settings.data == "sine" else omniglot_cnn(settings.ways)


def make_training_tasks(
    settings: RunSettings, characters: Characters | None, state: dict, device: str
) -> SineTasks | FewShotTasks:
    """A source of waves, or of tasks of the state's training characters, rotated copies included."""
    if characters is None:
        return SineTasks(shots=settings.shots)
    images = with_rotations(characters.images[state["train_classes"]]).to(device)
    return FewShotTasks(images, settings.ways, settings.shots)


def sample_test_tasks(
    state: dict, characters: Characters | None, shots: int, tasks: int, generator: torch.Generator
) -> TaskBatch:
    """New waves, or tasks of the state's test characters with one query per class, on the generator's device."""
    if characters is None:
        return SineTasks(shots=shots).sample(tasks, generator)
    images = characters.images[state["test_classes"]].to(generator.device)
    return FewShotTasks(images, settings_of(state).ways, shots).sample(tasks, generator)
