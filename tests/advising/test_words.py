"""The advice in words: no number in it says more than what was measured."""

from dataclasses import replace

import pudle
from pudle.advising.advice import Advice, Choice, ShortTraining, TrainingCheck
from pudle.answers import Requirement
from pudle.paired import Ratio


def choice(spec, *numbers, **more):
    return Choice(pudle.make_estimator(spec), pudle.Ista(), *numbers, **more)


CHOSEN = choice(
    "truncated(window=30)",
    120,
    0.0123,
    0.012,
    seeds_within_error=19,
    seeds=20,
    share=0.7838,
    median=0.0099,
)
SECOND = choice(
    "analytic", 150, 0.0123, 0.018, seeds_within_error=20, seeds=20, share=0.83, median=0.001
)
ADVICE = Advice(
    "digits, ista, lasso loss",
    Requirement(error=0.02),
    CHOSEN,
    SECOND,
    next_ratio=Ratio(1.5, 1.42, 1.58, 1e-6),
    base=choice("backprop", 100, 0.0123, 0.036),
    base_ratio=Ratio(0.333, 0.32, 0.346, 1e-9),
    unscorable=2,
    why_unscorable="degenerate: a code is next to zero",
)


def test_an_advice_is_a_sentence_with_what_it_rests_on():
    chosen, second, *rest = str(ADVICE).splitlines()
    assert "19 of 20" in chosen and "3 (2.89 to 3.12) times as fast as backprop" in chosen
    assert "1.5 (1.42 to 1.58) times that time" in second
    # A share is rounded down.
    assert "78%" in rest[0] and "2 seeds have" in rest[2]
    assert "(degenerate: a code is next to zero)" in rest[2]
    is_tied = str(replace(ADVICE, next_ratio=Ratio(1.1, 0.9, 1.3, 0.2), base=None))
    assert "cannot be told apart" in is_tied and "no measurement of backprop" in is_tied


def test_a_loss_that_rose_is_not_said_to_fall():
    trainings = (ShortTraining(CHOSEN, 2.0, -0.5, 1.0), ShortTraining(SECOND, 2.0, -0.1, 1.0))
    check = TrainingCheck(20, "adam", trainings)
    lines = str(replace(ADVICE, training=check)).splitlines()
    (line,) = (line for line in lines if line.startswith("20 steps of adam: "))
    assert "the loss rose from 2 by 0.5 with truncated" in line
    assert not check.confirms_advice
    assert line.endswith("this training says nothing about the advice.")
