"""Checks for the exercises: each tries the learner's function on random cases, and says what is missing."""

from reptile_helpers.checks.notebook_01 import interval, outer_gradient, outer_step
from reptile_helpers.checks.notebook_02 import gradient_through_theta, l1_outer_step, nearest_point, steps_needed
from reptile_helpers.checks.notebook_03 import expected_coefficients, hessian_vector, reptile_gradient
from reptile_helpers.checks.notebook_04 import conv_tasks, linear_tasks, loss_tasks
from reptile_helpers.checks.notebook_05 import rotated_classes, sample_task, task_accuracy
from reptile_helpers.checks.notebook_06 import adam_step, annealed, one_query_batches
from reptile_helpers.checks.notebook_07 import batch_norm, paired, with_query
from reptile_helpers.checks.notebook_08 import needed_tasks, running_mean, write_atomically
from reptile_helpers.checks.notebook_09 import centred, distance_to_line, with_none
from reptile_helpers.checks.notebook_10 import GUILTY, guilty, has_leak, outer_update, untouched

__all__ = [
    "GUILTY",
    "outer_step",
    "outer_gradient",
    "interval",
    "steps_needed",
    "nearest_point",
    "gradient_through_theta",
    "l1_outer_step",
    "reptile_gradient",
    "expected_coefficients",
    "hessian_vector",
    "linear_tasks",
    "conv_tasks",
    "loss_tasks",
    "sample_task",
    "rotated_classes",
    "task_accuracy",
    "annealed",
    "adam_step",
    "one_query_batches",
    "batch_norm",
    "paired",
    "with_query",
    "needed_tasks",
    "write_atomically",
    "running_mean",
    "centred",
    "distance_to_line",
    "with_none",
    "guilty",
    "outer_update",
    "has_leak",
    "untouched",
]
