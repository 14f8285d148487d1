"""What `pudle advise` says of errors holds on seeds that it has never seen."""

from dataclasses import replace
from typing import NamedTuple

import pytest

import pudle

#: Seeds that no advice has seen: it measures on the first few dozen.
FRESH = range(1000, 1010)


class Required(NamedTuple):
    """A problem and the error that its user requires."""

    dataset: str
    algorithm: str
    loss: str
    error: float


REQUIRED = {
    "lasso": Required("sparse_gaussian(n_samples=200)", "ista(step=0.2)", "lasso", 0.02),
    "reconstruction": Required(
        "sparse_gaussian(n_samples=200)", "ista(step=0.2)", "reconstruction", 0.02
    ),
    "accelerated": Required("bernoulli_gaussian(n_samples=200)", "fista", "reconstruction", 0.05),
    "ridge": Required("ridge(observations='random')", "ista", "linear", 1e-3),
    "penalty": Required("penalty_selection", "ista", "held_out", 1e-3),
    "convolutional": Required("convolutional", "ista", "reconstruction", 0.02),
}


@pytest.mark.nightly
@pytest.mark.parametrize("required", REQUIRED.values(), ids=REQUIRED)
def test_an_error_is_kept_on_nine_of_ten_fresh_seeds(required):
    """As docs/results/advice.md has it."""
    advice = pudle.advise(
        required.dataset, required.algorithm, loss=required.loss, error=required.error
    )
    assert (chosen := advice.chosen), str(advice)
    errors = []
    for seed in FRESH:
        drawn = replace(pudle.make_dataset(required.dataset), seed=seed).problem(required.loss)
        estimate = chosen.estimator.estimate(drawn, chosen.algorithm, chosen.depth)
        errors.append(pudle.score(estimate, pudle.reference(drawn)).relative_error)
    assert sum(error <= required.error for error in errors) >= 9, (advice, errors)
