"""The engine of answers: depths, costs and choices of known records, and one answer everywhere."""

import dataclasses
import math

import numpy as np
import pytest
from support.page import living_page

import pudle
from pudle import text
from pudle.answers import (
    NO_CURVE,
    Cost,
    Curve,
    Line,
    Measured,
    Point,
    Reason,
    Requirement,
    Rounds,
    answer,
    budgets,
    closest,
    depth_to,
    memory_noise,
)
from pudle.reports.answers import answers
from pudle.reports.cells import achievement, answer_cells
from pudle.reports.report import Report
from pudle.sentences import reason_text

DEPTHS = np.array([1, 10, 100])


@pytest.mark.parametrize(
    "errors, expected",
    [
        ({1: 1.0, 11: 1e-6}, 11),
        ({1: 1e-3, 5: 1e-4}, 1),
        ({1: 1.0, 5: 1e-2}, math.inf),
        ({1: 1e-4, 5: 1e-2, 15: 1e-4}, 15),
        ({}, math.inf),
    ],
)
def test_the_depth_from_which_an_error_stays_reached(errors, expected):
    assert depth_to(errors, 1e-3) == expected


@pytest.mark.parametrize(
    "depth, expected, outside",
    [
        (100, 1.0, False),
        (150, 1.5, False),
        (400, 4.0, True),
        (50, 0.5, True),
        (801, math.nan, True),
        (math.inf, math.nan, True),
    ],
)
def test_a_cost_is_linear_in_depth_and_not_carried_far(depth, expected, outside):
    line = Line({200: 2.0, 100: 1.0})
    assert line.at(depth) == (pytest.approx(expected, nan_ok=True), outside)
    assert line.inside(depth) == pytest.approx(math.nan if outside else expected, nan_ok=True)
    assert math.isnan(Line({100: 1.0}).at(150).value)
    # Fewer layers never save more than their share.
    assert Line({100: 1.0, 200: 9.0}).at(50) == (0.5, True)
    assert math.isnan(Line({100: 1.0}).at(math.nan).value)


def test_of_two_that_are_equally_close_the_cheaper_is_the_better():
    def point(estimator, error, seconds):
        return Point(Measured(estimator, NO_CURVE), 800, error, Cost(seconds), Cost(0.0))

    slow, quick = point("slow", 0.0659, 0.63), point("quick", 0.066, 0.34)
    worse = point("worse", 0.07, 0.01)
    assert closest([slow, quick, worse]) == [quick]
    # What was not timed is no better for it.
    assert closest([slow._replace(seconds=Cost(math.nan)), quick, worse]) == [quick]


def _ties(chosen):
    """Return the names of what ties with an answer."""
    return tuple(tie.estimator for tie in chosen.tied)


def measured(name, rates, seconds, memory=0.0, spread=0.01, turns=""):
    """Return an estimator whose errors fall by a rate per layer on each seed, and its costs."""
    errors = np.array(rates) ** DEPTHS[:, None]
    curve = Curve(DEPTHS, np.arange(len(rates)), errors, np.zeros(errors.shape, bool))
    noise = np.random.default_rng([len(rates), *name.encode()]).normal(0, spread, (2, 10))
    samples = {
        depth: seconds * depth * np.exp(row - row.mean())
        for depth, row in zip((1, 100), noise, strict=True)
    }
    lines = (
        Line({depth: value(depth) for depth in (1, 100)})
        for value in (lambda depth: seconds * depth, lambda depth: 1.0 + memory * depth)
    )
    return Measured(name, curve, *lines, Rounds(samples, turns))


def test_an_error_never_takes_longer_than_a_smaller_one():
    """A solver that needs less time for more layers, as where codes become sparse: what meets a
    small error meets a large one.
    """
    errors = np.array([[0.9], [0.05], [1e-4]])
    curve = Curve(np.array([1, 10, 100]), np.array([0]), errors, np.zeros(errors.shape, bool))
    row = Measured("sparse", curve, Line({1: 3.0, 10: 2.2, 100: 1.2}), Line({1: 1.0, 100: 9.0}))
    for error in (0.1, 1e-3):
        chosen = answer([row], Requirement(error))
        assert (chosen.depth, chosen.seconds.value) == (100, 1.2)
    assert answer([row], Requirement(0.1, memory=5.0)).depth == 10
    # By however little: a table shows both times.
    row = Measured("alike", curve, Line({1: 3.0, 10: 1.21, 100: 1.2}))
    assert answer([row], Requirement(0.1)).seconds.value == 1.2
    row = Measured("equal", curve, Line({1: 3.0, 10: 1.2, 100: 1.2}))
    assert answer([row], Requirement(0.1)).depth == 10


@pytest.mark.parametrize("noise, depth", [(0.2, 10), (1e-3, 100)])
def test_of_depths_that_take_the_same_time_the_least_is_named(noise, depth):
    """With the least time of all: a larger error never takes longer, and never more layers."""
    errors = np.array([[0.05], [1e-4], [1e-9]])
    curve = Curve(DEPTHS, np.array([0]), errors, np.zeros(errors.shape, bool))
    times = {1: 9.0, 10: 1.05, 100: 1.0}
    deviations = np.random.default_rng(0).normal(0, noise, (3, 10))
    samples = {
        depth: seconds * np.exp(row - row.mean())
        for (depth, seconds), row in zip(times.items(), deviations, strict=True)
    }
    memory = Line({1: 1.0, 10: 2.0, 100: 30.0})
    row = Measured("one", curve, Line(times), memory, Rounds(samples))
    chosen = answer([row], Requirement(1e-3))
    assert (chosen.depth, chosen.seconds) == (depth, (1.0, False))
    assert chosen.measured_error == errors[DEPTHS == depth].item()
    assert chosen.memory.value == memory.measured[depth]
    assert chosen.interval == row.rounds.quartiles(100)
    assert answer([row], Requirement(0.1)).seconds.value == 1.0
    smaller = answer([row], Requirement(1e-6))
    assert (smaller.depth, smaller.seconds.value) == (100, 1.0)
    # Nor where a limit of memory leaves the shallower ones.
    assert answer([row], Requirement(1e-3, memory=5.0)).seconds.value == 1.05
    # Of what is chosen by its error the same holds: two of these errors are nearly the same.
    equal = np.array([[0.05], [1e-9], [1e-9]])
    row = dataclasses.replace(row, errors=dataclasses.replace(curve, values=equal))
    least = answer([row], Requirement(None, seconds=5.0))
    assert (least.depth, least.seconds) == (depth, (1.0, False))


def test_the_cheapest_within_the_limits_is_chosen_else_the_closest():
    """Both have an error of 1e-3 at 100 layers, and not at 10; the second is slow and large."""
    every = [measured("small", [0.9] * 3, 1.0), measured("deep", [0.79] * 3, 5.0, memory=1.0)]
    chosen = answer(every, Requirement(1e-3))
    assert (chosen.estimator, chosen.depth, chosen.reached, chosen.tied) == ("small", 100, True, ())
    assert chosen.seconds == (pytest.approx(100.0), False)
    within = answer(every, Requirement(1e-3, seconds=40.0))
    assert (within.estimator, within.reached, within.depth) == ("small", False, 10)
    assert within.reason is Reason.CLOSEST and "these limits" in reason_text(within)
    assert answer(every, Requirement(None, memory=5.0)).estimator == "small"
    assert answer(every, Requirement(1e-12)).depth == 100
    assert answer(every, Requirement(1e-3, seconds=0.1)).estimator == ""
    # Without times it is the more accurate of those at the same depth, in whatever order.
    for some in (untimed(*every), untimed(*every[::-1])):
        assert answer(some, Requirement(1e-3)).estimator == "deep"
    # One seed needs more layers than were measured, and its error is the one that is named.
    uneven = answer([measured("small", [0.9, 0.9, 0.99], 1.0)], Requirement(1e-2))
    assert not uneven.reached and uneven.error == pytest.approx(0.99**100)


@pytest.mark.parametrize(
    "errors, before",
    [
        ([0.06, 0.73, 6e-4], (10, 0.73)),
        ([0.06, 0.02, 6e-4], (10, 0.02)),
        ([0.06, 1e-3, 6e-4], None),
        ([1e-4, 1e-5, 6e-2], None),
    ],
)
def test_an_error_at_the_deepest_measured_depth_alone_is_said_to_be_one(errors, before):
    """Whether it fell at last or came by chance: one depth cannot tell."""
    curve = Curve(
        DEPTHS, np.array([0, 1]), np.array([errors, [1e-9] * 3]).T, np.zeros((3, 2), bool)
    )
    chosen = answer([Measured("one", curve, Line({1: 1.0, 100: 9.0}))], Requirement(1e-3))
    known = chosen.missed_before and (chosen.missed_before.depth, chosen.missed_before.error)
    assert known == before
    cell = str(answer_cells(chosen)["depth"])
    assert cell.endswith(" alone (error {1:.2g} at {0})".format(*before) if before else " layers")
    # One depth has none before it.
    alone = Curve(DEPTHS[2:], np.array([0]), np.array([[1e-4]]), np.zeros((1, 1), bool))
    assert answer([Measured("one", alone)], Requirement(1e-3)).missed_before is None


def test_a_depth_where_a_seed_has_no_error_is_not_named():
    gap, failed = (measured("gap", [0.5, 0.5], 1.0) for _ in range(2))
    gap.errors.values[1, 1], failed.errors.values[:, 1] = math.nan, math.nan
    assert gap.reach(1e-2).depths == {0: 10, 1: 100} and gap.reach(1e-2).depth == 100
    assert failed.reach(1e-2).depth == math.inf


@pytest.mark.parametrize(
    "change, ties",
    [({}, ()), ({"spread": 0.2}, ("slower",)), ({"turns": "others"}, ("slower",))],
)
def test_the_fastest_is_told_by_a_test_over_rounds(change, ties):
    """Which those of a narrow spread pass, unless they were not measured in the same rounds."""
    every = [
        measured("slower", [0.9, 0.91], 1.1, **change),
        measured("faster", [0.9, 0.91], 1.0),
    ]
    chosen = answer(every, Requirement(1e-3))
    assert (chosen.estimator, _ties(chosen)) == ("faster", ties)
    assert ("not distinguishable" in reason_text(chosen)) == bool(ties)
    # At depths of their own the same rounds tell; where one is estimated, nothing does.
    ratio = every[1].rounds.ratio(100, every[1].rounds, 1)
    assert ratio.value == pytest.approx(100, rel=0.02) and ratio.p_value < 1e-6
    guess = dataclasses.replace(every[0], rounds=Rounds({}), seconds=Line({50: 55.5, 150: 167.0}))
    ratio = guess.rounds.ratio(100, every[1].rounds, 100)
    assert ratio.p_value == 1 and math.isnan(guess.rounds.quartiles(100)[0])
    assert guess.time(100) == (pytest.approx(111.25), True)
    chosen = answer([guess, every[1]], Requirement(1e-3))
    assert (chosen.estimator, chosen.tied, chosen.seconds.estimated) == ("faster", (), False)
    alone = answer_cells(answer([guess], Requirement(1e-3)))
    assert str(alone["time"]) == "111 s*"


def test_the_best_pair_is_chosen_and_ties_of_another_algorithm_are_named_with_it():
    slow, same = measured("one", [0.9], 2.0), measured("one", [0.9], 1.01, memory=1.0)
    pairs = [
        dataclasses.replace(each, algorithm=name)
        for each, name in ((slow, "ista"), (measured("one", [0.9], 1.0), "fista"), (same, "other"))
    ]
    chosen = answer(pairs, Requirement(1e-3))
    assert chosen.source is pairs[1] and chosen.tied == (pairs[2],)
    assert "from `one` with `other`." in reason_text(chosen)
    assert answer(pairs[:1], Requirement(1e-3)).values["algorithm"] == "ista"


def test_of_those_that_take_the_same_time_the_smallest_comes_first():
    """Where the least error is asked for, that with the smallest error."""
    large = measured("large", [0.9], 1.0, memory=2.0, spread=0.2)
    small = measured("small", [0.9], 1.05, memory=1.0, spread=0.2)
    chosen = answer([large, small], Requirement(1e-3))
    assert (chosen.estimator, _ties(chosen)) == ("small", ("large",))
    assert chosen.reason is Reason.LEAST_MEMORY_OF_FASTEST
    assert reason_text(chosen).startswith("Least memory of the fastest")
    least = answer([measured("worse", [0.90001], 1.0, spread=0.2), small], Requirement(None))
    assert least.estimator == "small"


def test_a_memory_difference_below_the_noise_is_no_reason():
    """Their times tie, and 2.23 is beside 1.68 MiB where a deeper run took 2.77 MiB less."""
    large = measured("large", [0.9], 1.0, memory=2.23, spread=0.2)
    small = measured("small", [0.9], 1.05, memory=1.68, spread=0.2)
    for noise, name, as_good in ((0.0, "small", ()), (2.77 * 100, "large", ("small",))):
        rows = [dataclasses.replace(row, memory_noise=noise) for row in (large, small)]
        chosen = answer(rows, Requirement(1e-3))
        assert chosen.estimator == name
        assert tuple(tie.estimator for tie in chosen.as_good) == as_good
        assert ("memory" in reason_text(chosen)) == (not noise)
    # What is not known is no reason either.
    unknown = dataclasses.replace(large, memory=Line({}))
    assert answer([unknown, small], Requirement(1e-3)).as_good == (small,)


@pytest.mark.parametrize(
    "groups, noise",
    [
        ([], 0.0),
        ([[]], 0.0),
        ([[{1: 1.0, 10: 2.0, 100: 4.0}]], 0.0),
        ([[{100: 4.0, 10: 7.0, 1: 6.0}], [{1: 5.0, 10: 4.5}]], 3.0),
        ([[{1: 9.0}]], 0.0),
        # Two losses, in either order; what is measured under one of them alone says nothing.
        ([[{1: 1.0, 10: 2.0}, {1: 1.5, 10: 8.5, 100: 90.0}]], 6.5),
        ([[{1: 1.5, 10: 8.5}, {1: 1.0, 10: 2.0}]], 6.5),
        # Other estimators or algorithms may take what they take.
        ([[{1: 1.0}], [{1: 50.0}]], 0.0),
    ],
)
def test_the_noise_of_memory_is_how_far_apart_lies_what_should_agree(groups, noise):
    """What falls with depth, or differs with the loss alone."""
    assert memory_noise([[*map(Line, lines)] for lines in groups]) == noise


@pytest.mark.parametrize(
    "depths, name", [((1, 100), "small"), ((1, 200), "large"), ((1,), "large")]
)
def test_a_memory_breaks_a_tie_only_where_it_was_measured(depths, name):
    """Both take the same time at 100 layers; one takes three times the memory of the other."""
    rows = [
        dataclasses.replace(row, memory=Line({depth: size * depth for depth in depths}))
        for size, row in (
            (3.0, measured("large", [0.9], 1.0, spread=0.2)),
            (1.0, measured("small", [0.9], 1.05, spread=0.2)),
        )
    ]
    chosen = answer(rows, Requirement(1e-3))
    assert (chosen.estimator, chosen.depth) == (name, 100)
    if name == "small":
        assert [tie.estimator for tie in chosen.larger] == ["large"] and not chosen.as_good
        assert achievement(chosen) == ("small", "105 s, tie in time with large, less memory")
    else:
        assert [tie.estimator for tie in chosen.as_good] == ["small"] and not chosen.larger
        assert str(answer_cells(chosen)["memory"]) in ("0.293 KiB*", "–")


def untimed(*rows):
    """Return estimators of which errors alone are known."""
    return [Measured(row.estimator, row.errors) for row in rows]


def test_without_times_the_same_depth_is_a_tie():
    """Whatever their errors, as long as they are small enough."""
    ties = [measured(name, [rate], 1.0) for name, rate in (("a", 0.9), ("b", 0.8), ("c", 0.7))]
    deeper = measured("deeper", [0.999], 1.0)
    chosen = answer(untimed(deeper, *ties[:2]), Requirement(1e-3))
    assert (chosen.estimator, _ties(chosen)) == ("b", ("a",)) and not chosen.is_timed
    assert (
        reason_text(chosen) == "Least depth to an error of 1e-3, a tie with `a`; not timed there."
    )
    several = reason_text(answer(untimed(*ties, measured("d", [0.6], 1.0)), Requirement(1e-3)))
    assert "a tie with `c` and 2 others" in several


def test_errors_that_are_nearly_the_least_are_a_tie():
    """Of all within 1 % the fastest is the answer, which says so."""
    near = [measured("near", [0.90001], 1.0), measured("least", [0.9], 3.0)]
    worse = measured("worse", [0.95], 0.1)
    chosen = answer([*near, worse], Requirement(None))
    assert (chosen.estimator, chosen.n_near, chosen.tied) == ("near", 2, ())
    assert reason_text(chosen) == (
        "Most accurate up to 100 layers: the fastest of 2 estimators within 1% of the least error."
    )
    alone = answer([near[1], worse], Requirement(None))
    assert reason_text(alone) == "Most accurate up to 100 layers."
    tied = answer(untimed(*near, worse), Requirement(None))
    assert (tied.estimator, _ties(tied)) == ("least", ("near",))
    assert "a tie with `near`; not timed" in reason_text(tied)
    missed = reason_text(answer(untimed(*near, worse), Requirement(1e-12)))
    assert "comes closest: the least depth of 2 estimators within 1%" in missed
    noisy = [measured(name, [0.9], 1.0, spread=0.2) for name in ("one", "two")]
    assert "not distinguishable in time from `" in reason_text(answer(noisy, Requirement(None)))


def test_an_answer_says_how_the_other_pairs_compare():
    """A pair is named in one form everywhere: the estimator, with its algorithm."""
    best, next_best = measured("best", [0.9], 1.0), measured("next", [0.9], 3.0)
    never = measured("never", [0.999], 1.0)
    sentence = reason_text(answer([best, next_best, never], Requirement(1e-3)))
    assert sentence == (
        "Fastest to an error of 1e-3. `next` takes 3 times as long."
        " 1 of the 2 other estimators does not reach it."
    )
    rows = [best, never, dataclasses.replace(next_best, algorithm="fista")]
    chosen = answer(rows, Requirement(1e-3))
    assert "`next` with `fista` takes 3 times as long. 1 of the 2 other pairs" in reason_text(
        chosen
    )
    alone = reason_text(answer([best, never], Requirement(1e-3)))
    assert alone.endswith("1e-3. The other estimator does not reach it.")


def test_an_answer_carries_the_error_that_was_measured():
    """The required one says little where the measured one is a millionth of it."""
    chosen = answer([measured("best", [0.5, 0.6], 1.0)], Requirement(1e-3))
    assert (chosen.depth, chosen.error) == (100, 1e-3)
    assert chosen.measured_error == pytest.approx(0.6**100)
    assert str(answer_cells(chosen)["error"]) == "6.5e-23"


def test_the_fastest_names_the_next_one_and_the_most_accurate_says_that_it_is():
    rows = [
        measured("third", [0.9], 9.0),
        measured("best", [0.9], 1.0),
        measured("next", [0.9], 3.0),
    ]
    chosen = answer(rows, Requirement(1e-3))
    assert (chosen.reason, chosen.next_fastest.source) == (Reason.FASTEST, rows[2])
    assert chosen.next_fastest.seconds.value == pytest.approx(300.0)
    # Nothing is said of the next one where a tie is as fast.
    tied = answer(
        [measured("a", [0.9], 1.0, spread=0.2), measured("b", [0.9], 1.05, spread=0.2)],
        Requirement(1e-3),
    )
    assert tied.tied and tied.next_fastest is None
    assert answer(rows, Requirement(None)).reason is Reason.MOST_ACCURATE
    assert answer(rows, Requirement(1e-12)).reason is Reason.CLOSEST


def test_rounds_that_say_the_contrary_of_the_times_leave_a_tie():
    """By its time alone the first is the faster one, by every round the slower one."""
    first, second = measured("first", [0.9], 1.0), measured("second", [0.9], 1.1)
    slower = {depth: 1.5 * values for depth, values in second.rounds.samples.items()}
    first = dataclasses.replace(first, rounds=Rounds(slower))
    chosen = answer([first, second], Requirement(1e-3))
    assert (chosen.estimator, _ties(chosen)) == ("first", ("second",))


def test_round_limits_of_memory_are_whole_mebibytes():
    """Of 12, 24 and 96 MiB: two of 1, 2, 5 times a power of ten that divide them in three."""
    curve = Curve(np.array([1, 2, 3]), np.array([0]), np.ones((3, 1)), np.zeros((3, 1), bool))
    memory = Line({1: 12 * 2**20, 2: 24 * 2**20, 3: 96 * 2**20})
    limits = [each.memory for each in budgets([Measured("one", curve, memory=memory)])]
    # The thirds are 20 and 48 MiB.
    assert [limit for limit in limits if limit < math.inf] == [20 * 2**20, 50 * 2**20]


def test_memories_within_their_noise_make_no_budget():
    """Neither one below what the page calls noise, nor a page or two of memory."""
    curve = Curve(np.array([1, 2, 3]), np.array([0]), np.ones((3, 1)), np.zeros((3, 1), bool))

    def limits(memory, noise=0.0):
        row = Measured("one", curve, memory=Line(memory), memory_noise=noise)
        return [each.memory for each in budgets([row]) if each.memory < math.inf]

    assert limits({1: 4096, 2: 8192, 3: 12288}) == []
    assert limits({1: 2**20, 2: 2 * 2**20, 3: 24 * 2**20}, 3 * 2**20) == [20 * 2**20]


def test_round_limits_divide_what_was_measured():
    limits = [each.seconds for each in budgets([measured("small", [0.9], 1.0)])]
    assert [limit for limit in limits if limit < math.inf] == [5.0, 50.0]


def test_report_page_notebook_and_advice_give_one_answer(tmp_path):
    """Of these two only `backprop` comes near the gradient, and not within 20 layers to 1e-6."""
    names = ["alternating", "backprop"]
    problem = "ridge(kappa=8.0)", f"ista(step={16 / 9!r})"
    for error, depths in ((1e-3, (2, 5, 10, 20, 50)), (1e-6, (2, 5, 10, 20))):
        options = {"home": tmp_path, "losses": ["linear"], "depths": depths, "progress": False}
        results = pudle.benchmark(*problem, names, seeds=1, **options)
        report = Report(results.results)
        (of_report,) = answers(report.results, Requirement(error))
        (of_notebook,) = results.answers(error).to_dict("records")
        every = living_page.data(living_page.html(report))["runs"][0]["answers"][""]
        ((_, *of_page),) = every[f"{text.number(error, 1)},,"]
        options = {"estimators": names, "seeds": 2, "most_depth": depths[-1]}
        advice = pudle.advise(*problem, error=error, **options)
        of_advice = advice.chosen or advice.closest
        use, _, depth, *_ = (cell["text"] if isinstance(cell, dict) else cell for cell in of_page)
        assert {use, of_report.cells["use"].text, of_notebook["estimator"], of_advice.name} == {
            "backprop"
        }
        at_most = "≤ " * of_notebook["reached"]
        assert (
            depth == of_report.cells["depth"].text == f"{at_most}{of_notebook['depth']:.0f} layers"
        )
        assert of_notebook["reached"] is bool(advice.chosen) is (error == 1e-3)
        # The advice measures more depths.
        assert 0.4 * of_notebook["depth"] < of_advice.depth <= of_notebook["depth"]
        if not advice.chosen:
            # Sweeps over other depths sum in another order.
            assert of_advice.error == pytest.approx(of_notebook["error"], rel=1e-9)


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 4, 7])
def test_the_spread_over_seeds_is_that_of_numpy_bit_for_bit(n_seeds):
    rng = np.random.default_rng(n_seeds)
    values = 10.0 ** rng.uniform(-300, 300, (200, n_seeds))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:2] = np.finfo(float).max
    known = ~np.isnan(values).all(axis=1)
    depths = np.arange(200)
    spread = Curve(depths, np.arange(n_seeds), values, np.zeros(values.shape, bool)).spread
    assert spread[:, 0].tolist() == depths[known].tolist()
    with np.errstate(over="ignore"):
        median = np.nanmedian(values[known], axis=1)
    several = (values[known] == np.finfo(float).max).all(axis=1)
    assert several.sum() == 2
    assert spread[~several, 1].tolist() == median[~several].tolist()
    assert spread[several, 1].tolist() == [np.finfo(float).max] * 2
    assert spread[:, 2].tolist() == np.nanmin(values[known], axis=1).tolist()
    assert spread[:, 3].tolist() == np.nanmax(values[known], axis=1).tolist()
