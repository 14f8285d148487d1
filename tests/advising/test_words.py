"""The advice in words: no number in it says more than what was measured."""

from __future__ import annotations

import math
from dataclasses import replace

import pudle
from pudle.advising.advice import Advice, Choice
from pudle.answers import Requirement


def choice(spec, *numbers, **more):
    return Choice(pudle.make_estimator(spec), *numbers, **more)


CHOSEN = choice(
    "truncated(window=30)", 120, 0.0123, 0.012, kept=19, seeds=20, share=0.7838, median=0.0099
)
SECOND = choice("analytic", 150, 0.0123, 0.018, kept=20, seeds=20, share=0.83, median=0.001)
ADVICE = Advice(
    "digits, ista, lasso loss",
    Requirement(error=0.02),
    CHOSEN,
    SECOND,
    base=choice("backprop", 100, 0.0123, 0.036),
    relative_time=0.333,
    unscorable=2,
)


def test_an_advice_is_a_sentence_with_what_it_rests_on():
    chosen, second, *rest = str(ADVICE).splitlines()
    for part in ("truncated(window=30) at 120 layers", "0.0123", "19 of 20", "9.9e-3", "12 ms"):
        assert part in chosen
    assert "0.33 times the time of backprop" in chosen and "100 layers" in chosen
    assert "analytic at 150 layers" in second and "1.5 times that time" in second
    # A share is rounded down.
    assert "78 %" in rest[0] and "20 seeds decide little" in rest[1] and "2 seeds have" in rest[2]
    assert rest[3] == "Problem: digits, ista, lasso loss. References: certified."
    tied = str(replace(ADVICE, tied=True, base=None, relative_time=math.nan))
    assert "cannot be told apart" in tied and "backprop does not reach" in tied


def test_without_an_advice_the_closest_is_said():
    closest = choice("one_step", 1, 0.4, memory=2.0**21)
    nothing = replace(ADVICE, chosen=None, closest=closest)
    first, second, _ = str(nothing).splitlines()
    assert "Nothing meets the requirement (error 0.02)" in first and "one_step at 1 layer" in second
    assert "0.4" in second and "2 MiB" in second and "–" not in second
    undecided = repr(replace(nothing, undecided=replace(CHOSEN, kept=15)))
    assert undecided.startswith("The data do not decide") and "15 of 20" in undecided
