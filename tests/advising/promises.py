"""The promises of `pudle.advise`, tested on fresh seeds; as a script, it prints the table of
docs/results/advice.md.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

import numpy as np

from pudle.advising import timing
from pudle.advising.advise import advise
from pudle.advising.records import Advice
from pudle.advising.trials import Trials
from pudle.advising.words import seconds
from pudle.threads import single_thread

#: Seeds that no advice has seen: it measures on the first few dozen.
FRESH = range(1000, 1010)


class Wished(NamedTuple):
    """A problem and what its user wishes for."""

    dataset: str
    algorithm: str
    loss: str
    error: float


WISHES = {
    "lasso": Wished("sparse_gaussian(n_samples=200)", "ista(step=0.2)", "lasso", 0.02),
    "reconstruction": Wished(
        "sparse_gaussian(n_samples=200)", "ista(step=0.2)", "reconstruction", 0.02
    ),
    "accelerated": Wished("bernoulli_gaussian(n_samples=200)", "fista", "reconstruction", 0.05),
    "ridge": Wished("ridge(observations='random')", "ista", "linear", 1e-3),
    "penalty": Wished("penalty_selection", "ista", "held_out", 1e-3),
    "convolutional": Wished("convolutional", "ista", "reconstruction", 0.02),
}


class Kept(NamedTuple):
    """What became of a promise on the fresh seeds: the errors there, and the times over those of
    backprop.
    """

    errors: list[float]
    ratios: list[float]

    def count(self, wished: Wished) -> int:
        """Return how many seeds keep the promise about the error."""
        return sum(error <= wished.error for error in self.errors)


def kept_on_fresh_seeds(wished: Wished, advice: Advice) -> Kept:
    """Measure the advised estimator on the fresh seeds anew."""
    assert advice.chosen, str(advice)
    chosen = advice.chosen.contender
    trials = Trials.of(wished.dataset, wished.algorithm, wished.loss)
    seeds = trials.scorable(FRESH)
    errors = trials.errors(chosen.estimator, seeds, [chosen.depth])[:, 0].tolist()
    if not advice.base:
        return Kept(errors, [])
    calls = [(each.estimator, each.depth) for each in (chosen, advice.base)]
    with single_thread():
        found = [timing.times(calls, trials.problem(seed), trials.algorithm, 3) for seed in seeds]
    return Kept(errors, [float(np.median(each[:, 0] / each[:, 1])) for each in found])


def main() -> None:
    """Print a row of a Markdown table for each wish that is named, or for all."""
    columns = [
        "problem",
        "wish",
        "advice",
        "layers",
        "time",
        "kept",
        "largest error",
        "time / backprop",
        "there",
        "measured in",
    ]
    print(f"| {' | '.join(columns)} |\n|---|--:|---|{'--:|' * (len(columns) - 3)}")
    for name in sys.argv[1:] or WISHES:
        wished, start = WISHES[name], time.process_time()
        advice = advise(wished.dataset, wished.algorithm, loss=wished.loss, error=wished.error)
        took, kept = time.process_time() - start, kept_on_fresh_seeds(wished, advice)
        chosen = advice.chosen.contender
        cells = [
            f"`{wished.dataset}`, `{wished.algorithm}`, {wished.loss}",
            f"{wished.error:g}",
            f"`{chosen.name}`",
        ]
        cells += [
            str(chosen.depth),
            seconds(chosen.seconds),
            f"{kept.count(wished)} of {len(kept.errors)}",
        ]
        cells += [
            f"{max(kept.errors):.2g}",
            f"{advice.relative_time:.2g}" if advice.base else "not reached",
        ]
        cells += [
            f"{min(kept.ratios):.2g} to {max(kept.ratios):.2g}" if kept.ratios else "",
            f"{took:.0f} s",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
        print(advice, dict(advice.left_out), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
