"""Wrong numbers are named."""

import math

import numpy as np
import pytest
import torch

from reptile_helpers.arguments import require_fraction, require_positive, require_whole


@pytest.mark.parametrize("value", [1, 5, np.int64(5), np.uint8(5), np.arange(4)[3], torch.tensor(5), 10**30])
def test_whole_numbers(value):
    require_whole(ways=value, shots=1)


@pytest.mark.parametrize(
    "value",
    [0, -1, 2.0, np.float64(2), "5", None, True, False, np.True_, torch.tensor(True), torch.tensor(2.0), [5], math.nan,
     np.int64(0), np.array([3, 4]), torch.tensor([3, 4]), 1j],
    ids=repr,
)  # fmt: skip
def test_what_is_not_a_whole_number(value):
    with pytest.raises(ValueError) as caught:
        require_whole(ways=5, shots=value)
    assert str(caught.value) == f"shots is {value!r}; it must be a whole number of at least 1"


def test_the_minimum():
    require_whole(minimum=0, seed=0)
    require_whole(0, seed=np.int64(0))
    with pytest.raises(ValueError, match=r"^seed is -1; it must be a whole number of at least 0$"):
        require_whole(minimum=0, seed=-1)
    with pytest.raises(ValueError, match=r"^tasks is 1; it must be a whole number of at least 2$"):
        require_whole(minimum=2, tasks=1)


@pytest.mark.parametrize("value", [1, 0.5, 1e-300, np.float32(0.1), np.int64(3)])
def test_positive_numbers(value):
    require_positive(lr=value, epsilon=1.0)


@pytest.mark.parametrize("value", [0, 0.0, -1, math.nan, math.inf, -math.inf, "0.1", None, True, [0.1], 1j], ids=repr)
def test_what_is_not_a_positive_number(value):
    with pytest.raises(ValueError) as caught:
        require_positive(epsilon=1.0, lr=value)
    assert str(caught.value) == f"lr is {value!r}; it must be a positive number"


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.1), np.int64(1)])
def test_fractions(value):
    require_fraction(epsilon=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, 7, math.nan, math.inf, "0.1", None, True, [0.1], 1j], ids=repr)
def test_what_is_not_a_fraction(value):
    with pytest.raises(ValueError) as caught:
        require_fraction(epsilon=value)
    assert str(caught.value) == f"epsilon is {value!r}; it must be a number from 0 to 1"
