"""The advice in words: no number in it says more than what was measured."""

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
    for part in ("at 120 layers", "19 of 20", "9.9e-3", "12 ms", "0.33 times the time of backprop"):
        assert part in chosen
    assert "analytic at 150 layers" in second and "1.5 times that time" in second
    # A share is rounded down.
    assert "78 %" in rest[0] and "2 seeds have" in rest[2]
    tied = str(replace(ADVICE, tied=True, base=None, relative_time=math.nan))
    assert "cannot be told apart" in tied and "backprop does not reach" in tied
