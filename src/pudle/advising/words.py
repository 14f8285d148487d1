"""Advice in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..text import count
from .statistics import CONFIDENCE

if TYPE_CHECKING:
    from .records import Advice, Contender, Promise

#: The references that a promise is about.
TRUTH = {"certified": "the exact gradient", "limit": "the gradient at the algorithm's limit"}


def error(value: float, digits: int = 2) -> str:
    """Return an error in words: ``2 %``, ``1e-6``."""
    if value >= 1e-3:
        return f"{100 * value:.{digits}g} %"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def promised(value: float) -> str:
    """Return an error that is promised, or wished for, with so many digits that none is lost that
    matters.
    """
    return error(value, 4)


def seconds(value: float) -> str:
    """Return a duration with its unit."""
    size, unit = next(
        (pair for pair in ((1.0, "s"), (1e-3, "ms")) if value >= pair[0]), (1e-6, "µs")
    )
    return f"{value / size:.3g} {unit}"


def memory(value: float) -> str:
    """Return bytes with their unit."""
    size, unit = next(
        (pair for pair in ((2.0**30, "GiB"), (2.0**20, "MiB")) if value >= pair[0]),
        (2.0**10, "KiB"),
    )
    return f"{value / size:.3g} {unit}"


def layers(contender: Contender) -> str:
    """Return a contender with its depth."""
    return f"{contender.name} at {count(contender.depth, 'layer')}"


def sentences(advice: Advice) -> Iterator[str]:
    """Yield the lines of an advice: the answer, what else there is, and what it rests on."""
    truth = TRUTH[advice.reference]
    if advice.undecided:
        yield f"The data do not decide: {_undecided(advice.undecided)}."
    elif advice.chosen is None:
        yield f"Nothing meets the wish ({_wish(advice)}) on {advice.problem}."
        if advice.nearest:
            yield (
                f"Nearest: {layers(advice.nearest)}: {_facts(advice.nearest, truth)}, on the seeds"
                " that were tried."
            )
    else:
        yield (
            f"{layers(advice.chosen.contender)}:"
            f" {_promise(advice.chosen, truth)}{_against_base(advice)}."
        )
        yield from _runner_up(advice)
        for goal, contender in advice.stricter.items():
            yield (
                f"If you need {error(goal)}: {layers(contender)}, {seconds(contender.seconds)}, by"
                " the first seeds."
            )
        yield from _certainty(advice)
    if advice.training:
        yield advice.training
    yield f"Problem: {advice.problem}. References: {advice.reference}."


def _undecided(tested: Promise) -> str:
    return (
        f"{layers(tested.contender)} was within {promised(tested.error)} on the seeds of the"
        f" choice, but on only {tested.kept} of {tested.seeds} new seeds; wish for a larger error,"
        " or allow more layers"
    )


def _wish(advice: Advice) -> str:
    wish = advice.wish
    parts = [f"error at most {promised(wish.error)}" if wish.error is not None else ""]
    parts += [f"at most {seconds(wish.seconds)}" if wish.seconds is not None else ""]
    parts += [f"at most {memory(wish.memory)}" if wish.memory is not None else ""]
    return ", ".join(filter(None, parts))


def _facts(contender: Contender, truth: str) -> str:
    parts = [
        f"within {error(contender.error)} of {truth}" if math.isfinite(contender.error) else ""
    ]
    parts += [seconds(contender.seconds) if not math.isnan(contender.seconds) else ""]
    parts += [memory(contender.memory) if not math.isnan(contender.memory) else ""]
    return ", ".join(filter(None, parts)) or "not measured"


def _promise(tested: Promise, truth: str) -> str:
    contender = tested.contender
    where = (
        f"in {tested.kept} of {tested.seeds} seeds"
        if not math.isnan(tested.share)
        else "on this problem"
    )
    cost = [seconds(contender.seconds)]
    cost += [memory(contender.memory)] if not math.isnan(contender.memory) else []
    return (
        f"within {promised(tested.error)} of {truth} {where} (median {error(tested.median)}),"
        f" {' and '.join(cost)}"
    )


def _against_base(advice: Advice) -> str:
    chosen, base = advice.chosen, advice.base
    if base is None or chosen is None:
        return "; backprop does not come that near within the depths that were tried"
    if chosen.contender.name == base.name:
        return ""
    return (
        f", {advice.relative_time:.2g} times the time of backprop, which needs"
        f" {count(base.depth, 'layer')} for it"
    )


def _runner_up(advice: Advice) -> Iterator[str]:
    second, chosen = advice.runner_up, advice.chosen
    if second is None or chosen is None:
        return
    ratio = second.contender.seconds / chosen.contender.seconds
    how = (
        "its time cannot be told apart from that" if advice.tied else f"{ratio:.2g} times that time"
    )
    kept = "" if math.isnan(second.share) else f" in {second.kept} of {second.seeds} seeds"
    yield f"Next: {layers(second.contender)}: within {promised(second.error)}{kept}, {how}."


def _certainty(advice: Advice) -> Iterator[str]:
    chosen = advice.chosen
    if chosen is None:
        return
    if math.isnan(chosen.share):
        yield "This holds for this one problem: nothing follows for others."
        return
    # Rounded down: a share is promised as an error is.
    share, confidence = f"{math.floor(100 * chosen.share)} %", f"{100 * CONFIDENCE:.0f} %"
    basis = f"the {chosen.seeds} seeds had no part in the choice"
    yield f"Of all seeds at least {share} keep the promise, with {confidence} confidence: {basis}."
    if chosen.share < 0.8:
        yield f"{chosen.seeds} seeds decide little: more seeds would say more."
    if advice.unscorable:
        further = count(advice.unscorable, "further seed has", "further seeds have")
        yield f"{further} no reference to score against, which the promise is not about."
