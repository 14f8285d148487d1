"""What answers and ratios say in words: sentences that reports and `pudle advise` share."""

from functools import partial
from math import inf

from . import text
from .answers import Answer, Measured, Reason, Requirement
from .paired import Ratio

#: Estimators that cannot be told apart in time are named one by one up to this many.
NAMED_TIES = 2


def ratio_text(ratio: Ratio) -> str:
    """Write a ratio with its interval."""
    return text.between(ratio.value, ratio.low, ratio.high, partial(text.number, digits=3))


def requirement_text(requirement: Requirement) -> str:
    """Write what is required: ``error 1e-3, within 2.00 s``; empty where nothing is."""
    parts = []
    if requirement.error is not None:
        parts.append(f"error {text.number(requirement.error, 1)}")
    if requirement.seconds < inf:
        parts.append(f"within {text.seconds(requirement.seconds)}")
    if requirement.memory < inf:
        parts.append(f"within {text.memory(requirement.memory)}")
    return ", ".join(parts)


def pair_name(source: Measured, several_algorithms: bool) -> str:
    """Name an estimator, with its algorithm where it was chosen from pairs with several."""
    if not several_algorithms:
        return f"`{source.estimator}`"
    return f"`{source.estimator}` with `{source.algorithm}`"


def reason_text(answer: Answer) -> str:
    """Write why an answer is what it is, in a few short sentences: what it is fastest or closest
    to, its ties, how much longer the next one takes, and how many do not reach the error.
    """
    if answer.reached and answer.source:
        return _reached_text(answer)
    if answer.reason is Reason.NOTHING_SCORED:
        return "Nothing was scored here."
    if answer.reason is Reason.NOTHING_WITHIN_LIMITS:
        return "No measured gradient is within these limits."
    limits = "within these limits"
    if answer.deepest is not None:
        unit = "" if answer.several_algorithms else f" {answer.unit}s"
        limits = f"up to depth {answer.deepest}" if not unit else f"up to {answer.deepest}{unit}"
    if answer.requirement.error is None:
        return f"Most accurate {limits}."
    error = text.number(answer.requirement.error, 1)
    return f"None reaches {error} on every seed {limits}; this one comes closest."


def _others_text(answer: Answer) -> str:
    """Write, after the sentence on the fastest estimator, how much longer the next one takes, and
    how many others do not reach the error; empty where there is neither.

    It begins with a space.
    """
    sentences = ""
    if slower := answer.next_fastest:
        factor = text.number(slower.seconds.value / answer.seconds.value)
        name = pair_name(slower.source, answer.several_algorithms)
        sentences += f" {name} takes {factor} times as long."
    if answer.n_failing:
        limits = " within these limits" if answer.requirement.limited else ""
        noun = "other pair" if answer.several_algorithms else "other estimator"
        others = text.count(answer.n_pairs - 1, noun)
        failing = f"{answer.n_failing} of the {others}"
        if answer.n_failing == answer.n_pairs - 1:
            failing = f"The {noun if answer.n_failing == 1 else others}"
        verb = "does" if answer.n_failing == 1 else "do"
        sentences += f" {failing} {verb} not reach it{limits}."
    return sentences


def _reached_text(answer: Answer) -> str:
    """Write why an estimator that reaches the required error is the answer; beyond `NAMED_TIES`
    ties the first is named and the others are counted.
    """
    goal = f"to an error of {text.number(answer.error, 1)}"
    ties = [pair_name(tie, answer.several_algorithms) for tie in answer.tied]
    if answer.reason is Reason.LEAST_DEPTH:
        also = ""
        if ties:
            also = f", as {'has' if len(ties) == 1 else 'have'} {text.listing(ties)}"
        return f"Least depth {goal}{also}; its time there is not known."
    if answer.reason is Reason.FASTEST:
        return f"Fastest {goal}.{_others_text(answer)}"
    if len(ties) > NAMED_TIES:
        ties = [ties[0], text.count(len(ties) - 1, "other")]
    start = "Among" if answer.reason is Reason.AMONG_FASTEST else "Least memory of"
    return f"{start} the fastest {goal}; not distinguishable in time from {text.listing(ties)}."
