"""The promises of `pudle.advise`, tested on fresh seeds; as a script, it prints the table of docs/results/advice.md."""

from __future__ import annotations

import sys
from typing import NamedTuple

from pudle.advising.advice import Advice, advise
from pudle.advising.trials import Trials

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
    "reconstruction": Wished("sparse_gaussian(n_samples=200)", "ista(step=0.2)", "reconstruction", 0.02),
    "accelerated": Wished("bernoulli_gaussian(n_samples=200)", "fista", "reconstruction", 0.05),
    "ridge": Wished("ridge(observations='random')", "ista", "linear", 1e-3),
    "penalty": Wished("penalty_selection", "ista", "held_out", 1e-3),
    "convolutional": Wished("convolutional", "ista", "reconstruction", 0.02),
}


def kept_on_fresh_seeds(wished: Wished, advice: Advice) -> list[float]:
    """Return the errors of the advised estimator on the fresh seeds, measured anew."""
    assert advice.chosen, str(advice)
    chosen = advice.chosen.contender
    trials = Trials.of(wished.dataset, wished.algorithm, wished.loss)
    return trials.errors(chosen.estimator, trials.scorable(FRESH), [chosen.depth])[:, 0].tolist()


def main() -> None:
    """Print a row of a Markdown table for each wish that is named, or for all."""
    print("| problem | wish | advice | layers | kept on 10 fresh seeds | largest error there | time / backprop |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for name in sys.argv[1:] or WISHES:
        wished = WISHES[name]
        advice = advise(wished.dataset, wished.algorithm, loss=wished.loss, error=wished.error)
        errors = kept_on_fresh_seeds(wished, advice)
        kept = sum(error <= wished.error for error in errors)
        chosen = advice.chosen.contender
        cells = [f"`{wished.dataset}`, `{wished.algorithm}`, {wished.loss}", f"{wished.error:g}", f"`{chosen.name}`"]
        cells += [str(chosen.depth), f"{kept} of {len(errors)}", f"{max(errors):.2g}", f"{advice.relative_time:.2g}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        print(advice, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
