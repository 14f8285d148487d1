"""An advice in words: no number in it says more than what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, isnan
from typing import TYPE_CHECKING

from .. import names, text
from ..sentences import ratio_text, requirement_text
from .tolerance import CONFIDENCE

if TYPE_CHECKING:
    from .advice import Advice, Choice, ShortTraining, TrainingCheck

#: What the errors are measured against, by the kind of the references.
TARGETS = {"certified": "the exact gradient", "limit": "the gradient at the algorithm's limit"}
#: A smaller share of all seeds is called little.
ENOUGH = 0.8


def name_pair(choice: Choice) -> str:
    """Name a choice's estimator and algorithm: ``backprop with ista``."""
    return f"{choice.name} with {names.text(choice.algorithm)}"


def name_choice(choice: Choice) -> str:
    """Name a choice with its depth: ``backprop with ista at 100 layers``."""
    return f"{name_pair(choice)} at {text.count(choice.depth, 'layer')}"


def write_costs(choice: Choice) -> str:
    """Write a choice's time and memory, as far as they are known; empty if neither is."""
    costs = text.seconds(choice.seconds), text.memory(choice.memory)
    return " and ".join(cost for cost in costs if cost != text.DASH)


def write_promise(choice: Choice) -> str:
    """Write a choice's error with all its digits, and on how many of the tested seeds it holds, or
    that it holds on this problem where there is one alone.
    """
    if isnan(choice.share):
        where = "this problem"
    else:
        where = f"{choice.seeds_within_error} of {choice.seeds} seeds"
    return f"error at most {choice.error:.12g} on {where}"


def write_advice(advice: Advice) -> str:
    """Write an advice as lines: the answer, what else there is, and what it rests on."""
    return "\n".join(filter(None, _lines(advice)))


def _lines(advice: Advice) -> Iterator[str]:
    """Yield the lines of an advice, in the order in which they are read."""
    if advice.undecided:
        yield _undecided_line(advice.undecided)
    elif advice.chosen:
        yield from _choice_lines(advice, advice.chosen)
    else:
        yield from _nothing_lines(advice)
    if advice.unscorable:
        seeds = text.count(advice.unscorable, "seed has", "seeds have")
        why = f" ({advice.why_unscorable})" if advice.why_unscorable else ""
        yield f"{seeds} no reference to score against{why}; nothing is said about these."
    if advice.training:
        yield write_training(advice.training)
    if advice.chosen:
        yield _python_line(advice.chosen)
    yield f"Problem: {advice.problem}. References: {advice.reference}."


def _undecided_line(choice: Choice) -> str:
    """Say that the data do not decide: how a choice did on the seeds of its choice and on new
    ones.
    """
    return (
        f"The data do not decide: {choice} had an error of at most {choice.error:.12g} on the"
        f" seeds of the choice, but only on {choice.seeds_within_error} of {choice.seeds} new"
        " seeds; allow a larger error, or more layers."
    )


def _choice_lines(advice: Advice, chosen: Choice) -> Iterator[str]:
    """Yield the lines on the chosen estimator and the next best: error, costs, and on how many
    seeds they hold.
    """
    at_bound = f" at the {advice.reference} bound," if chosen.at_bound else ""
    yield (
        f"{chosen}: {write_promise(chosen)} against {TARGETS[advice.reference]}"
        f" (median{at_bound} {text.number(chosen.median)}),"
        f" {write_costs(chosen)}{_beside_base(advice, chosen)}."
    )
    if advice.runner_up and advice.next_ratio:
        if advice.is_tied:
            comparison = "its time cannot be told apart from that"
        else:
            comparison = f"{ratio_text(advice.next_ratio)} times that time"
        yield f"Next: {advice.runner_up}: {write_promise(advice.runner_up)}, {comparison}."
    if isnan(chosen.share):
        yield "This holds for this one problem: nothing follows for others."
        return
    # Rounded down: a share is stated as an error is.
    share = floor(100 * chosen.share)
    yield (
        f"Of all seeds at least {share}% keep this error, with {CONFIDENCE:.0%} confidence: the"
        f" {chosen.seeds} seeds had no part in the choice."
    )
    if chosen.share < ENOUGH:
        yield f"{chosen.seeds} seeds decide little: more seeds would say more."


def _beside_base(advice: Advice, chosen: Choice) -> str:
    """Continue the sentence on the chosen estimator with its time beside that of `backprop`; empty
    if it is that itself.
    """
    base, ratio = advice.base, advice.base_ratio
    if not (base and ratio):
        return "; no measurement of backprop reaches that error"
    if name_pair(base) == name_pair(chosen):
        return ""
    layers = text.count(base.depth, "layer")
    faster = ratio.value < 1
    times = ratio_text(ratio.inverse() if faster else ratio)
    compared = "times as fast as" if faster else "times the time of"
    return f", {times} {compared} {name_pair(base)}, which needs {layers} for it"


def _nothing_lines(advice: Advice) -> Iterator[str]:
    """Yield the lines of an advice without a choice: that nothing meets the requirement, and what
    comes closest.
    """
    requirement = requirement_text(advice.requirement)
    yield f"Nothing meets the requirement ({requirement}) on {advice.problem}."
    if closest := advice.closest:
        error = f"error {text.number(closest.error)} on the seeds that were tried"
        yield f"Closest: {', '.join(filter(None, [str(closest), error, write_costs(closest)]))}."


def _python_line(chosen: Choice) -> str:
    """Return the line of Python that computes a gradient as a choice does."""
    algorithm = f"pudle.make_algorithm({names.text(chosen.algorithm)!r})"
    return (
        f"In Python: pudle.make_estimator({chosen.name!r})"
        f".estimate(problem, {algorithm}, depth={chosen.depth})"
    )


def write_training(check: TrainingCheck) -> str:
    """Write by how much short trainings lowered the loss, in what time, or that they diverged, and
    whether the advice holds; or why there was none.
    """
    if not check.trainings:
        return f"No training: {check.reason}."
    results = ", and ".join(map(_training_result, check.trainings))
    if check.confirms_advice:
        verdict = "the advice holds"
    elif any(training.lowers_loss for training in check.trainings):
        verdict = "the advice does not hold in this training: prefer the other"
    else:
        verdict = "this training says nothing about the advice"
    return f"{check.steps} steps of {check.optimizer}: {results}: {verdict}."


def _training_result(training: ShortTraining) -> str:
    """Write how one short training ended, as a clause."""
    if training.divergence:
        return f"the training with {training.choice} diverged"
    verb = "rose" if training.decrease < 0 else "fell"
    return (
        f"the loss {verb} from {training.initial_loss:.4g} by {abs(training.decrease):.3g} with"
        f" {training.choice} in {text.seconds(training.seconds)}"
    )
