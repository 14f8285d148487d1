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


def tie_name(tie: Measured, best: Measured) -> str:
    """Name an estimator that ties with the best one, after its algorithm where that is another.

    The other algorithm's name stands before it: ``fista + implicit``.
    """
    if tie.algorithm == best.algorithm:
        return tie.estimator
    return f"{tie.algorithm} + {tie.estimator}"


def reason_text(answer: Answer) -> str:
    """Write why an answer is what it is, in one sentence: what it is fastest or closest to, and its
    ties.
    """
    if answer.reached and answer.source:
        return _reached_text(answer, answer.source)
    if answer.reason is Reason.NOTHING_SCORED:
        return "Nothing was scored here."
    if answer.reason is Reason.NOTHING_WITHIN_LIMITS:
        return "No measured gradient is within these limits."
    limits = "these limits"
    if answer.deepest is not None:
        limits = text.count(answer.deepest, "layer")
    if answer.requirement.error is None:
        return f"Most accurate within {limits}."
    error = text.number(answer.requirement.error, 1)
    return f"No estimator reaches {error} on every seed within {limits}; this one comes closest."


def _lead_text(answer: Answer, best: Measured) -> str:
    """Return the end of the sentence on the fastest estimator: how much slower the next is, and how
    many others do not reach the error. It is empty where there is neither.
    """
    lead = ""
    if answer.next_fastest:
        factor = text.number(answer.next_fastest.seconds.value / answer.seconds.value)
        lead = f": `{tie_name(answer.next_fastest.source, best)}` takes {factor} times as long"
    if answer.n_failing:
        limits = " within these limits" if answer.requirement.limited else ""
        verb = "does" if answer.n_failing == 1 else "do"
        failing = f"{text.count(answer.n_failing, 'other')} {verb} not reach it{limits}"
        lead = f"{lead}; {failing}" if lead else f": {failing}"
    return lead


def _reached_text(answer: Answer, best: Measured) -> str:
    """Write why an estimator that reaches the required error is the answer; beyond `NAMED_TIES`
    ties the first is named and the others are counted.
    """
    goal = f"to an error of {text.number(answer.error, 1)}"
    ties = [f"`{tie_name(tie, best)}`" for tie in answer.tied]
    if answer.reason is Reason.LEAST_DEPTH:
        also = ""
        if ties:
            also = f", as {'has' if len(ties) == 1 else 'have'} {text.listing(ties)}"
        return f"Least depth {goal}{also}; its time there is not known."
    if answer.reason is Reason.FASTEST:
        return f"Fastest {goal}{_lead_text(answer, best)}."
    if len(ties) > NAMED_TIES:
        ties = [ties[0], text.count(len(ties) - 1, "other")]
    start = "Among" if answer.reason is Reason.AMONG_FASTEST else "Least memory of"
    return f"{start} the fastest {goal}; not distinguishable in time from {text.listing(ties)}."
