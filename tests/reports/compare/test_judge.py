"""Verdicts on accuracy, statuses, memory and environments, where the tests plant what there is to
find; thresholds, and a comparison as Markdown.
"""

import dataclasses
import tomllib

import pytest
from support.paths import ROOT
from support.records.synthetic import BOUND
from support.records.two_sides import (
    CASES,
    DEPTHS,
    ESTIMATORS,
    MEMORY,
    TIMED,
    case,
    only,
    scores,
    turns,
)

from pudle.measuring.stored_files import CommitRounds
from pudle.reports.compare import summary
from pudle.reports.compare.judge import Judged, Limits, compare

COSTS = len(CASES) * len(ESTIMATORS) * len(TIMED)
CELLS = COSTS * 2 + len(CASES) * len(ESTIMATORS) * len(DEPTHS) * len(summary.ERRORS)


def times(factor, metric="relative_error", **place):
    """Return a change that multiplies errors."""

    def plant(side):
        for row in scores(side, **place):
            row[metric] *= factor

    return plant


def equal(depth=400, **values):
    """Return a change of what scores say at a depth, or at all."""

    def plant(side):
        for row in scores(side, **({"depth": depth} if depth else {})):
            row |= values

    return plant


def record(**changes):
    """Return a change of the record of one estimator on one case."""
    return lambda side: side["records"][CASES[0], "backprop"].update(changes)


def failed(name):
    """Return a change after which a record failed at all depths."""

    def plant(side):
        equal(None, **dict.fromkeys(summary.ERRORS), status=name, reason="not finished")(side)
        record(status=name)(side)

    return plant


def memory(factor, cell=(CASES[0], "backprop")):
    """Return a change of the memory of one estimator on one case, or of all."""

    def plant(side):
        for each in side["memory"]:
            if each[: len(cell)] == cell:
                side["memory"][each] *= factor

    return plant


def provenance(**changes):
    def plant(side):
        for each in side["records"].values():
            each["provenance"] |= changes

    return plant


def slow(side):
    side["samples"] = {cell: [2 * each for each in old] for cell, old in side["samples"].items()}


def both(*changes):
    return lambda side: [change(side) for change in changes]


def diverged(side):
    equal(100, **dict.fromkeys(summary.ERRORS), status="diverged", reason="3 of 5 are NaN")(side)
    record(status="diverged")(side)


def without_estimator(side):
    side["estimators"].remove("backprop")


def without_case(side):
    side["cases"].pop(0)


def without_depth(side):
    record(scores=[row for row in scores(side) if row["depth"] != 100])(side)


def without_record(side):
    del side["records"][CASES[0], "backprop"]


def redefined(side):
    for each in (*side["cases"], *(record["case"] for record in side["records"].values())):
        each["algorithm"] = "fista"


def test_unchanged_results_pass(judge):
    comparison = judge()
    assert tuple(comparison.frame.columns) == Judged._fields
    assert len(comparison.rows) == CELLS and {row.verdict for row in comparison.rows} == {"same"}
    assert comparison.differences == {}


def test_unchanged_repeats_raise_no_false_alarm(judge):
    alarms = [judge(rounds=turns(noise=0.3, seed=seed)).cells() for seed in range(10)]
    assert {row.metric for rows in alarms for row in rows} <= {"seconds"}
    assert sum(len(rows) > 0 for rows in alarms) <= 1


@pytest.mark.parametrize(
    "change, what, reason",
    [
        (times(1.011, depth=100, seed=1), "accuracy", "depth 100, seed 1: 1.011 times"),
        (times(3, "code_error", depth=10), "accuracy", "code error at depth 10"),
        # The floor of the cosine is of second order.
        (equal(cosine_error=(20 * BOUND) ** 2 / 2), "accuracy", "cosine error"),
        (both(provenance(numpy="9.9"), times(1.3, depth=100)), "accuracy", "1.3 times"),
        (diverged, "status", "was ok, is diverged: 3 of 5 are NaN"),
        (failed("timeout"), "status", "was ok, is timeout: not finished"),
        (without_depth, "cell vanished", "is no longer measured"),
        (without_record, "cell vanished", "is no longer measured"),
        (memory(2), "memory", "memory at depth 10: 2 times"),
    ],
)
def test_what_got_worse_is_named(judge, change, what, reason):
    line = only(judge(change))
    assert (line.what, line.estimator, line.case) == (what, "backprop", CASES[0])
    assert reason in line.reason


@pytest.mark.parametrize(
    "change, limits",
    [
        # 400 layers reach the bound, where ten times as much is rounding.
        (both(times(9, depth=400), times(1 + 1e-7, depth=10)), {}),
        (equal(cosine_error=(9 * BOUND) ** 2 / 2), {}),
        # Beyond the ratio, but little; and much, but within the ratio.
        (memory(1 + 3.9 * 2**20 / MEMORY), {}),
        (memory(1.5), {"memory_bytes": {"ratio": 2.0}}),
        (both(provenance(numpy="9.9"), times(1.2, depth=100)), {}),
        (both(provenance(cpu="Difference engine"), slow, memory(2, ())), {}),
    ],
)
def test_what_is_within_the_thresholds_passes(judge, change, limits):
    assert judge(change, limits=Limits.of(limits)).cells() == []


@pytest.mark.parametrize(
    "change, change_base, verdict, number",
    [
        (times(0.5, depth=10), None, "improved", 1),
        (None, failed("timeout"), "improved", len(DEPTHS) * len(summary.ERRORS)),
        (failed("unsupported"), failed("error"), "improved", 0),
        (memory(0, ()), None, "improved", COSTS),
        (None, memory(0, ()), "regression", COSTS),
        (memory(0, ()), memory(0, ()), "regression", 0),
        (None, without_estimator, "new", CELLS // len(ESTIMATORS)),
        # A new estimator that does not work is no regression either.
        (failed("error"), without_estimator, "regression", 0),
        (failed("error"), failed("unsupported"), "regression", len(DEPTHS)),
        (
            both(provenance(machine="there", python="3.11.9"), memory(2, ())),
            None,
            "regression",
            COSTS,
        ),
    ],
)
def test_the_verdict_depends_on_both_sides(judge, change, change_base, verdict, number):
    assert len(judge(change, change_base).cells(verdict)) == number


def test_whole_estimators_and_cases_that_vanish_or_change_are_named(judge):
    lines = summary.lines(judge(without_estimator))
    assert [(line.what, line.estimator, line.case) for line in lines] == [
        ("cell vanished", "backprop", name) for name in CASES
    ]
    assert "time and memory" in lines[0].reason
    assert {line.case for line in summary.lines(judge(without_case))} == {CASES[0]}
    lines = summary.lines(judge(redefined))
    assert {line.what for line in lines} == {"case redefined"}
    assert "ista became fista" in lines[0].reason


def test_where_numbers_come_from_is_said(judge):
    changes = {"python": "3.11.9", "cpu": "Difference engine", "dirty": True}
    comparison = judge(both(provenance(machine="there", **changes), slow))
    assert comparison.differences == {
        "python": ["3.11.0", "3.11.9"],
        "cpu": ["Abacus", "Difference engine"],
    }
    notes = " ".join(comparison.notes)
    assert "differ in cpu" in notes and "thresholds for elsewhere" in notes
    assert "head was measured with uncommitted changes" in notes
    assert "Run `pudle run` once more in a checkout of it without changes" in notes
    text = summary.markdown(comparison, "base", "head", "quick")
    assert "| cpu | Abacus | Difference engine |" in text


def test_a_factor_over_errors_that_count_as_the_bound_says_so(judge):
    """At 400 layers the error of base lies below ten bounds, which its growth is counted from."""
    line = only(judge(times(1e13, depth=400)))
    row = next(iter(judge(times(1e13, depth=400)).cells()))
    floor = 10 * BOUND
    assert row.base < floor and row.change == pytest.approx(row.head / floor)
    assert line.reason.endswith(
        f"times as much, where any error below {floor:.2g} counts as {floor:.2g}"
    )
    assert only(judge(times(3, depth=10))).reason.endswith("3 times as much")


def large_errors(smallest):
    """Return an edit of a side that puts all relative errors above 0.1 but one."""

    def edit(content):
        rows = [row for record in content["records"].values() for row in record["scores"]]
        for row in rows:
            row["relative_error"] = 0.6
        for seed_row in [row for row in rows if row["depth"] == DEPTHS[-1]]:
            seed_row["relative_error"] = smallest

    return edit


@pytest.mark.parametrize(("smallest", "warned"), [(0.11, True), (0.09, False)])
def test_errors_too_large_to_show_a_lost_part_of_the_gradient_are_warned_of(
    judge, smallest, warned
):
    comparison = judge(large_errors(smallest), large_errors(smallest))
    warnings = [note for note in comparison.notes if note.startswith("Warning: all errors")]
    assert bool(warnings) == warned
    assert not warned or "--depth 100" in warnings[0] and "0.11" in warnings[0]
    assert all(note in summary.plain(comparison) for note in warnings)


def test_what_a_side_lacks_is_said(judge):
    comparison = judge(without_estimator, lacking={"base": {}, "head": {"mine": "no such file"}})
    assert comparison.notes[0] == "Left out on head: no such file"


def test_the_repository_states_the_defaults():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pudle"]["compare"]
    assert Limits.of(table) == Limits()
    assert set(table) == set(Limits.__struct_fields__)


def test_markdown_of_many_findings_fits_a_comment(judge):
    names = [f"case-{number}-with-a-rather-long-name-lasso" for number in range(100)]

    def many(factor):
        def plant(side):
            record = side["records"][CASES[0], "backprop"]
            rows = [row | {"relative_error": 0.1 * factor} for row in record["scores"][:2]]
            side |= {"cases": [case(name) for name in names], "estimators": ["backprop"]}
            side["records"] = {
                (name, "backprop"): record | {"case": case(name), "scores": rows} for name in names
            }

        return plant

    text = summary.markdown(judge(many(10), many(1)), "base", "head", "quick")
    assert text.startswith(summary.MARKER)
    assert len(text) < 65_536 and "and 70 more lines" in text


@pytest.mark.parametrize("together", [None, CommitRounds(rounds=[], lacking={})])
@pytest.mark.parametrize("narrowed", [False, True])
def test_a_cell_vanishes_unless_options_of_a_separate_run_left_it_out(
    unchanged, narrowed, together
):
    """Such as `pudle run --depth 100` at head, after a whole run at base. Of two commits that were
    measured together the options are the same.
    """
    name, depth = CASES[0], DEPTHS[0]
    head = dataclasses.replace(
        unchanged,
        narrowed=narrowed,
        cases={name: dataclasses.replace(unchanged.cases[name], depths=(depth,))},
        rows=[row for row in unchanged.rows if row.case == name and row.depth in (None, depth)],
    )
    judged, left_out = compare(unchanged, head, together=together), narrowed and not together
    assert {row.rule for row in judged.cells()} == (set() if left_out else {"vanished"})
    assert any("options of the run of head" in note for note in judged.notes) is left_out


def test_a_score_that_failed_takes_its_costs_with_it(judge):
    def plant(side):
        failed("error")(side)
        for cell in [cell for cell in side["samples"] if cell[:2] == (CASES[0], "backprop")]:
            del side["samples"][cell]

    judged = judge(plant)
    assert {row.metric for row in judged.cells()} >= {"seconds", "memory_bytes"}
    assert {row.rule for row in judged.cells()} == {"status"}
