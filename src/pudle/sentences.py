"""What answers and ratios say in words: sentences that reports and `pudle advise` share."""

from collections.abc import Sequence
from functools import partial
from math import inf

from . import text
from .answers import SAME_ERROR, Answer, Measured, Reason, Requirement
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


def shortened_ties(names: Sequence[str]) -> list[str]:
    """Return the names of what ties, or beyond `NAMED_TIES` the first of them and how many others
    there are.
    """
    if len(names) <= NAMED_TIES:
        return [*names]
    return [names[0], text.count(len(names) - 1, "other")]


def _tie_names(answer: Answer) -> str:
    """Name what ties with an answer; empty where nothing does."""
    names = [pair_name(tie, answer.several_algorithms) for tie in answer.tied]
    return text.listing(shortened_ties(names))


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
        return f"Most accurate {limits}{_near_text(answer)}."
    error = text.number(answer.requirement.error, 1)
    closest = f"this one comes closest{_near_text(answer)}"
    return f"None reaches {error} on every seed {limits}; {closest}."


def _near_text(answer: Answer) -> str:
    """Continue a sentence on an answer that is chosen by its error: of how many with nearly the
    least error it is the fastest, and what ties with it; empty where it alone has nearly the least.

    It begins with a colon.
    """
    if answer.n_near < 2:
        return ""
    noun = "pairs" if answer.several_algorithms else "estimators"
    group = f"{answer.n_near} {noun} within {SAME_ERROR:.0%} of the least error"
    ties = _tie_names(answer)
    if not answer.is_timed:
        return f": the least depth of {group}{f', a tie with {ties}' if ties else ''}; not timed"
    if ties:
        return f": among the fastest of {group}; not distinguishable in time from {ties}"
    return f": the fastest of {group}"


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
    ties = _tie_names(answer)
    if answer.reason is Reason.FASTEST:
        return f"Fastest {goal}.{_others_text(answer)}"
    n_larger = len(answer.larger)
    larger = f" {n_larger} of these {'takes' if n_larger == 1 else 'take'} more memory."
    if answer.reason is Reason.LEAST_DEPTH:
        also = f", a tie with {ties}" if ties else ""
        return f"Least depth {goal}{also}; not timed there.{larger if n_larger else ''}"
    if answer.reason is Reason.AMONG_FASTEST:
        start, end = f"Among the fastest {goal}", larger if n_larger else ""
    elif answer.as_good:
        start, end = f"Of the fastest {goal}, among those with the least memory", ""
    else:
        start, end = f"Least memory of the fastest {goal}", ""
    return f"{start}; not distinguishable in time from {ties}.{end}"
