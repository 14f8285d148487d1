"""Windows of the last layers: many from one backward pass, and of a single layer."""

import pytest
import tolerances
import torch
from comparisons import relative

import pudle
from pudle.estimators.truncated import Truncated

DEPTH = 12


def test_windows_of_one_backward_pass_equal_single_windows(algorithm, problem):
    swept = dict(Truncated.sweep_windows(problem, algorithm, DEPTH, [5, 1, 5, 12, 100]))
    assert list(swept) == [1, 5, 12, 100]
    for window, estimate in swept.items():
        alone = Truncated(window=window).estimate(problem, algorithm, DEPTH)
        assert relative(estimate.gradient, alone.gradient) < tolerances.SAME_ARITHMETIC
        assert torch.equal(estimate.codes, alone.codes)
        work = {"layers": DEPTH, "layers_differentiated": min(window, DEPTH)}
        assert estimate.diagnostics == alone.diagnostics == work


@pytest.mark.parametrize("windows", [[0], [3, -1], [1.5]], ids=str)
def test_impossible_windows_are_refused(problem, windows):
    with pytest.raises(pudle.InvalidArgument, match="windows=.*>= 1"):
        list(Truncated.sweep_windows(problem, pudle.Ista(), 4, windows))
