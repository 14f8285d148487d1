"""The advice in words: no number in it says more than what was measured."""

from __future__ import annotations

import dataclasses
import math

import pytest

from pudle.advising.records import Advice, Contender, Promise, Wish
from pudle.advising.words import error, memory, promised, seconds

CHOSEN = Promise(
    Contender("truncated(window=30)", 120, error=0.019, seconds=0.012), 0.02, 19, 20, 0.7838, 0.0123
)
SECOND = Promise(Contender("analytic", 150, seconds=0.018), 0.02, 20, 20, 0.83, 0.001)
ADVICE = Advice(
    "digits, ista, lasso loss",
    Wish(error=0.02),
    CHOSEN,
    SECOND,
    False,
    Contender("backprop", 100, seconds=0.036),
    0.333,
    stricter={2e-4: Contender("analytic", 200, seconds=0.02)},
    unscorable=2,
)


def test_an_advice_is_a_sentence_with_what_it_rests_on():
    assert str(ADVICE).splitlines() == [
        (
            "truncated(window=30) at 120 layers: within 2 % of the exact gradient in 19 of 20 seeds"
            " (median 1.2 %), 12 ms, 0.33 times the time of backprop, which needs 100 layers"
            " for it."
        ),
        "Next: analytic at 150 layers: within 2 % in 20 of 20 seeds, 1.5 times that time.",
        "If you need 2e-4: analytic at 200 layers, 20 ms, by the first seeds.",
        (
            "Of all seeds at least 78 % keep the promise, with 95 % confidence: the 20 seeds had no"
            " part in the choice."
        ),
        "20 seeds decide little: more seeds would say more.",
        "2 further seeds have no reference to score against, which the promise is not about.",
        "Problem: digits, ista, lasso loss. References: certified.",
    ]
    shown = (
        "Advice(digits, ista, lasso loss: truncated(window=30), depth 120, error <= 0.02 in 19 of"
        " 20 seeds)"
    )
    assert repr(ADVICE) == shown


def test_what_cannot_be_told_apart_or_compared_is_said():
    tied = str(dataclasses.replace(ADVICE, tied=True, base=None, relative_time=math.nan))
    assert (
        "its time cannot be told apart from that" in tied
        and "backprop does not come that near" in tied
    )


def test_without_an_advice_the_nearest_is_said():
    nothing = dataclasses.replace(
        ADVICE, chosen=None, nearest=Contender("one_step", 1, error=0.4, memory=2.0**21)
    )
    assert str(nothing).splitlines()[:2] == [
        "Nothing meets the wish (error at most 2 %) on digits, ista, lasso loss.",
        (
            "Nearest: one_step at 1 layer: within 40 % of the exact gradient, 2 MiB, on the seeds"
            " that were tried."
        ),
    ]
    undecided = dataclasses.replace(nothing, undecided=dataclasses.replace(CHOSEN, kept=15))
    assert str(undecided).startswith(
        "The data do not decide: truncated(window=30) at 120 layers was within 2 % on the seeds"
    )
    assert "on only 15 of 20 new seeds" in str(undecided) and "the data do not decide" in repr(
        undecided
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.02, "2 %"),
        (1e-3, "0.1 %"),
        (9.99e-4, "1e-3"),
        (1e-6, "1e-6"),
        (2.34e-12, "2.3e-12"),
        (0.5, "50 %"),
    ],
)
def test_errors(value, shown):
    assert error(value) == shown


def test_a_promise_is_not_rounded_to_a_tighter_one():
    assert promised(0.0123) == "1.23 %" and promised(1.234e-5) == "1.234e-5"


def test_costs_have_units():
    assert [seconds(value) for value in (2.0, 0.0123, 4.5e-5)] == ["2 s", "12.3 ms", "45 µs"]
    assert [memory(value) for value in (2.0**31, 3 * 2.0**20, 512.0)] == [
        "2 GiB",
        "3 MiB",
        "0.5 KiB",
    ]
