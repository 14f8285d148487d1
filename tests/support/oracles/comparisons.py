"""Comparisons that many tests make."""

import numpy as np
import pytest
import torch
from support.oracles import in_numpy
from support.problems.small_problems import directions

import pudle


def relative(mine, truth):
    """Euclidean error relative to the truth; absolute if the truth is zero."""
    mine, truth = (
        np.asarray(torch.as_tensor(array).detach().cpu()).astype(float) for array in (mine, truth)
    )
    assert mine.shape == truth.shape
    size = np.linalg.norm(truth)
    return float(np.linalg.norm(mine - truth) / (size if size else 1))


def directional_error(gradient, value, at, count=3):
    """The largest distance of a gradient from central differences along random directions, relative
    to its norm.
    """
    gradient = gradient.numpy()
    distances = [
        abs(float((gradient * each).sum() - in_numpy.central_difference(value, at, each)))
        for each in directions(at.shape, count)
    ]
    return max(distances) / np.linalg.norm(gradient)


def refusal(call, kind=pudle.InvalidArgument):
    """The text of the error that a call raises, which must be a single line."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
