"""A short training with the advised estimator and with the runner-up: whether the advice holds
where gradients are used.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from typing import Any

import torch

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..learning.learner import Learner, LearningWarning
from ..learning.run import DictionaryProblem
from ..measuring.experiment import ProgressCallback
from .records import Advice, Promise
from .trials import Trials
from .words import layers, seconds

STEPS, OPTIMIZER = 20, "adam(learning_rate=0.01)"
#: The outer loss is evaluated after so many times the layers of the deeper of the two.
DEEPER = 4
#: A training that reaches this share of the other's decrease of the loss is as good.
AS_GOOD = 0.95


def check_trainable(trials: Trials) -> None:
    """Raise InvalidArgument for a problem that has no dictionary to learn."""
    if not isinstance(trials.problem(0), DictionaryProblem):
        raise InvalidArgument(
            f"a training learns a dictionary, and {trials.text} has none: ask for no training"
        )


def practiced(advice: Advice, trials: Trials, progress: ProgressCallback) -> Advice:
    """Return the advice with a sentence about two short trainings, of the advised estimator and of
    the runner-up.

    Both take the same number of steps from the same dictionary with the same optimizer. What counts
    is by how much the outer loss has fallen, evaluated at the end with many more layers than either
    has, and the processor time.
    """
    pair = [each for each in (advice.chosen, advice.runner_up) if each]
    if len(pair) < 2:
        return dataclasses.replace(
            advice, training="No training: there is no runner-up to compare with."
        )
    start, depth = trials.problem(0), DEEPER * max(each.contender.depth for each in pair)
    before, found = _loss(start, trials.algorithm, depth), []
    for number, each in enumerate(pair):
        progress(number, 2, f"training with {each.contender.name}")
        found.append(_trained(each, start, trials.algorithm, depth))
    (first, took), (second, takes) = ((before - after, spent) for after, spent in found)
    holds = first >= AS_GOOD * second and first > 0
    verdict = (
        "the advice holds"
        if holds
        else "the advice does not hold in this training: prefer the runner-up"
    )
    text = (
        f"{STEPS} steps of {OPTIMIZER}: the loss {before:.4g} fell by {first:.3g} with"
        f" {layers(pair[0].contender)} in {seconds(took)}, and by {second:.3g} with"
        f" {layers(pair[1].contender)} in {seconds(takes)}: {verdict}."
    )
    return dataclasses.replace(advice, training=text)


def _trained(
    tested: Promise, problem: Any, algorithm: Algorithm, depth: int
) -> tuple[float, float]:
    """Return the loss after a training, and its processor seconds."""
    contender = tested.contender
    learner = Learner(contender.estimator, algorithm, contender.depth, OPTIMIZER, epochs=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LearningWarning)
        training = learner.fit(problem, clock=time.process_time)
    moved = dataclasses.replace(problem, **problem.fields_at(training.theta))
    return _loss(moved, algorithm, depth), float(training.history["seconds"].iloc[-1])


def _loss(problem: Any, algorithm: Algorithm, depth: int) -> float:
    with torch.no_grad():
        return float(problem.outer_loss(algorithm.run(problem, depth).codes))
