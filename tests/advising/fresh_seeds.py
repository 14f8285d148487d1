"""What `pudle.advise` says of errors, tested on fresh seeds; as a script, it prints the table of
docs/results/advice.md.
"""

import sys
import time
from typing import NamedTuple

import numpy as np

from pudle.advising.advise import advise
from pudle.advising.search import Candidate, Draws, Search
from pudle.answers import Requirement
from pudle.text import seconds
from pudle.threads import single_thread

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


def kept_on_fresh_seeds(required, advice):
    """Return the errors of the advised estimator on the fresh seeds, how many of them keep what is
    required, and the times over those of backprop.
    """
    assert advice.chosen, str(advice)
    chosen = advice.chosen
    draws = Draws(required.dataset, required.algorithm, required.loss)
    search = Search(draws, Requirement(required.error), chosen.depth)
    seeds = draws.scorable(FRESH)
    candidate, depth = Candidate(chosen.estimator, chosen.algorithm), chosen.depth
    errors = draws.errors(candidate, seeds, [depth]).loc[depth].tolist()
    count = sum(error <= required.error for error in errors)
    if not advice.base:
        return errors, count, []
    calls = [
        (Candidate(each.estimator, each.algorithm), each.depth) for each in (chosen, advice.base)
    ]
    with single_thread():
        taken = [search.in_turns(calls, 3, seed) for seed in seeds]
    return errors, count, [float(np.median(each[:, 0] / each[:, 1])) for each in taken]


def main():
    """Print a row of a Markdown table for each requirement that is named, or for all."""
    columns = "problem|error|advice|layers|time|kept|largest error|time / backprop|there|took"
    print(f"|{columns}|\n|---|--:|---|{'--:|' * 7}")
    for name in sys.argv[1:] or REQUIRED:
        required, start = REQUIRED[name], time.process_time()
        dataset, algorithm, loss, error = required
        advice = advise(dataset, algorithm, loss=loss, error=error)
        took, chosen = time.process_time() - start, advice.chosen
        errors, count, ratios = kept_on_fresh_seeds(required, advice)
        cells = (
            f"`{dataset}`, `{algorithm}`, {loss}",
            f"{error:g}",
            f"`{chosen.name}`",
            str(chosen.depth),
            seconds(chosen.seconds),
            f"{count} of {len(errors)}",
            f"{max(errors):.2g}",
            f"{advice.base_ratio.value:.2g}" if advice.base else "not reached",
            f"{min(ratios):.2g} to {max(ratios):.2g}" if ratios else "",
            f"{took:.0f} s",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
        print(advice, dict(advice.left_out), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
