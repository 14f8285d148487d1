"""Short trainings with the advised estimator and the runner-up: whether the advice holds where
gradients are used.
"""

import dataclasses
import time
import warnings
from typing import Any

import torch

from .. import text
from ..errors import InvalidArgument
from ..learning.learner import Learner, LearningWarning
from ..measuring.experiment import ProgressCallback
from ..problems.l1 import DictionaryProblem
from .advice import Advice
from .draws import Draws

STEPS, OPTIMIZER = 20, "adam(learning_rate=0.01)"
#: The outer loss is evaluated after so many times the layers of the deeper of the two.
DEEPER = 4
#: A training that reaches this share of the other's decrease of the loss is as good.
AS_GOOD = 0.95


def check_trainable(draws: Draws) -> None:
    """Raise InvalidArgument for a problem that has no dictionary to learn."""
    if not isinstance(draws.problem(0), DictionaryProblem):
        raise InvalidArgument(
            f"a training learns a dictionary, and {draws.text} has none: ask for no training"
        )


def with_training(advice: Advice, draws: Draws, progress: ProgressCallback) -> Advice:
    """Return the advice with a sentence about two short trainings, of the advised estimator and of
    the runner-up.

    Both take the same number of steps from the same dictionary with the same optimizer. What counts
    is by how much the outer loss has fallen, evaluated at the end with many more layers than either
    has, and the processor time.
    """
    pair = [each for each in (advice.chosen, advice.runner_up or advice.base) if each]
    if len(pair) < 2:
        nothing = "No training: there is no runner-up to compare with."
        return dataclasses.replace(advice, training=nothing)
    start, deepest = draws.problem(0), pair[0].algorithm
    deep = DEEPER * max(each.depth for each in pair)

    def loss(problem: Any) -> float:
        with torch.no_grad():
            return float(problem.outer_loss(deepest.run(problem, deep).codes))

    before, falls, results = loss(start), [], []
    for number, each in enumerate(pair):
        progress(number, 2, f"training with {each.name}")
        learner = Learner(each.estimator, each.algorithm, each.depth, OPTIMIZER, epochs=STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LearningWarning)
            trained = learner.fit(start, clock=time.process_time)
        moved = dataclasses.replace(start, **start.fields_at(trained.theta))
        falls.append(before - loss(moved))
        took = text.seconds(trained.history["seconds"].iloc[-1])
        results.append(f"by {falls[-1]:.3g} with {each} in {took}")
    holds = falls[0] >= AS_GOOD * falls[1] and falls[0] > 0
    verdict = "holds" if holds else "does not hold in this training: prefer the other"
    fell = f"{STEPS} steps of {OPTIMIZER}: the loss {before:.4g} fell {', and '.join(results)}"
    return dataclasses.replace(advice, training=f"{fell}: the advice {verdict}.")
