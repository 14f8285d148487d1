"""What `pudle.advise` says of errors, tested on fresh seeds; as a script, it prints the table of
docs/results/advice.md.
"""

import sys
import time
from dataclasses import replace
from typing import NamedTuple

import pudle
from pudle.text import seconds

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


def advised(required):
    """Return the advice, and the errors of the advised estimator on the fresh seeds."""
    advice = pudle.advise(
        required.dataset, required.algorithm, loss=required.loss, error=required.error
    )
    assert (chosen := advice.chosen), str(advice)
    errors = []
    for seed in FRESH:
        drawn = replace(pudle.make_dataset(required.dataset), seed=seed).problem(required.loss)
        estimate = chosen.estimator.estimate(drawn, chosen.algorithm, chosen.depth)
        errors.append(pudle.score(estimate, pudle.reference(drawn)).relative_error)
    return advice, errors


def main():
    """Print a row of a Markdown table for each requirement that is named, or for all."""
    columns = "problem|error|advice|layers|time|kept|largest error|time / backprop|took"
    print(f"|{columns}|\n|---|--:|---|{'--:|' * 6}")
    for name in sys.argv[1:] or REQUIRED:
        required, start = REQUIRED[name], time.process_time()
        advice, errors = advised(required)
        took, chosen = time.process_time() - start, advice.chosen
        dataset, algorithm, loss, error = required
        cells = (
            f"`{dataset}`, `{algorithm}`, {loss}",
            f"{error:g}",
            f"`{chosen.name}`",
            str(chosen.depth),
            seconds(chosen.seconds),
            f"{sum(each <= error for each in errors)} of {len(errors)}",
            f"{max(errors):.2g}",
            f"{advice.base_ratio.value:.2g}" if advice.base else "not reached",
            f"{took:.0f} s",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
        print(advice, dict(advice.left_out), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
