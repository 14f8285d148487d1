"""Verdicts on accuracy, statuses, memory and environments, where the tests plant what there is to
find.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types

import pytest
from paths import ROOT
from two_sides import (
    BASELINE,
    BOUND,
    CASES,
    DEPTHS,
    ESTIMATORS,
    MEMORY,
    TIMED,
    blank,
    only,
    scores,
    turns,
    write,
)

import pudle
from pudle.measuring.statuses import STATUSES
from pudle.reports.compare import summary
from pudle.reports.compare.judge import COLUMNS, compare
from pudle.reports.compare.limits import Limits
from pudle.reports.compare.sides import load_folder


def test_unchanged_results_pass(judge):
    comparison = judge()
    assert tuple(comparison.frame.columns) == COLUMNS
    cells = len(CASES) * len(ESTIMATORS)
    assert len(comparison.frame) == cells * (len(DEPTHS) * 5 + len(TIMED) * 2)
    assert set(comparison.frame["verdict"]) == {"same"}
    assert comparison.differences == {}


def test_twenty_unchanged_repeats_raise_no_false_alarm(judge):
    alarms = [
        judge(rounds=turns(noise=0.3, seed=seed)).cells()["metric"].tolist() for seed in range(20)
    ]
    assert not [metric for run in alarms for metric in run if metric != "seconds"]
    assert sum(bool(run) for run in alarms) <= 1


def test_a_planted_loss_of_accuracy_is_named(judge):
    def plant(head):
        for row in scores(head, depth=100, seed=1):
            row["relative_error"] *= 1.011

    comparison = judge(plant)
    line = only(comparison)
    assert (line["what"], line["estimator"], line["case"]) == ("accuracy", "backprop", CASES[0])
    row = comparison.cells().iloc[0]
    assert row["change"] == pytest.approx(1.011)
    assert row["limit"] == 1.01
    assert "seed 1" in row["reason"]


def test_accuracy_within_the_threshold_or_near_the_floor_passes(judge):
    def plant(head):
        for row in scores(head):
            # 400 layers reach the bound, where ten times as much is rounding.
            row["relative_error"] *= 9.0 if row["depth"] == 400 else 1 + 1e-7

    assert set(judge(plant).frame["verdict"]) == {"same"}


@pytest.mark.parametrize("factor", [1.009, 1 / 1.009, 1 + 1e-5])
def test_a_change_beyond_rounding_is_listed_as_changed(judge, factor):
    def plant(head):
        for row in scores(head, depth=100):
            row["relative_error"] *= factor

    comparison = judge(plant)
    assert comparison.cells().empty and set(comparison.frame["verdict"]) == {"same", "changed"}
    assert "1 changed" in summary.plain(comparison) and "<summary>Changed" in summary.markdown(
        comparison, "a", "b", "quick"
    )


def test_the_mistake_of_the_tutorial_is_caught(tmp_path):
    """Without its weights the tutorial's estimator is an average shorter: too little for a gate of
    tenths of decades.
    """
    source = (ROOT / "examples" / "pudle-example" / "random_window.py").read_text()
    problem = pudle.make_dataset("sparse_gaussian(n_samples=50)").problem(loss="lasso")
    reference = pudle.reference(problem)

    def side(name, source):
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, name, "exec"), vars(module))
        content = blank()
        for row in scores(content):
            estimator = module.RandomWindow(seed=row["seed"])
            estimate = estimator.estimate(problem, pudle.Ista(step=0.2), row["depth"])
            row["relative_error"] = pudle.score(estimate, reference).relative_error
        return load_folder(write(tmp_path / name / "quick", content))

    weighted, unweighted = (
        side("weighted", source),
        side("unweighted", source.replace(" / (1 - self.stop) ** layer", "")),
    )
    assert set(compare(weighted, weighted).frame["verdict"]) == {"same"}
    found = compare(weighted, unweighted)
    assert set(found.cells()["metric"]) == {"relative_error"}, found.frame[
        found.frame["verdict"] != "same"
    ]


def test_another_machine_has_a_looser_rule_that_is_stated(judge):
    def plant(head, factor):
        for record in head["records"].values():
            record["provenance"]["numpy"] = "9.9"
        for row in scores(head, depth=100):
            row["relative_error"] *= factor

    comparison = judge(lambda head: plant(head, 1.2))
    assert comparison.cells().empty and comparison.cells("changed").empty
    assert "thresholds for elsewhere" in summary.plain(comparison)
    assert only(judge(lambda head: plant(head, 1.3)))["what"] == "accuracy"


def test_the_floor_is_of_second_order_for_the_cosine(judge):
    def plant(head, size):
        for row in scores(head, depth=400):
            row["cosine_error"] = size

    assert judge(lambda head: plant(head, (9 * BOUND) ** 2 / 2)).cells().empty
    assert only(judge(lambda head: plant(head, (20 * BOUND) ** 2 / 2)))["what"] == "accuracy"


def test_a_gain_of_accuracy_is_improved(judge):
    def plant(head):
        for row in scores(head, depth=10):
            row["relative_error"] /= 2

    comparison = judge(plant)
    assert comparison.cells().empty
    assert len(comparison.cells("improved")) == 1


def test_thresholds_are_per_metric(judge):
    def plant(head):
        for row in scores(head, depth=10):
            row["code_error"] *= 3

    assert only(judge(plant))["what"] == "accuracy"
    assert judge(plant, limits=Limits.of({"code_error": {"ratio": 3.2}})).cells().empty


def test_nan_is_a_regression(judge):
    def plant(head):
        for row in scores(head, depth=100):
            row["relative_error"] = row["cosine_error"] = None

    line = only(judge(plant))
    assert (line["what"], line["estimator"], line["cells"]) == ("status", "backprop", "1 depth")
    assert "without a value" in line["reason"]


def test_nan_in_the_frame_itself_is_a_regression(unchanged):
    frame = unchanged.frame.copy()
    planted = (
        (frame["estimator"] == "backprop")
        & (frame["metric"] == "cosine_error")
        & (frame["depth"] == 100)
    )
    frame.loc[planted, "value"] = math.nan
    row = compare(unchanged, dataclasses.replace(unchanged, frame=frame)).cells()
    assert set(row["rule"]) == {"nan"}
    assert set(row["metric"]) == {"cosine_error"}


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "ok"])
def test_a_cell_that_is_no_longer_ok_is_a_regression_with_its_reason(judge, status):
    def plant(head):
        empty = dict.fromkeys(
            ("relative_error", "absolute_error", "cosine_error", "code_error", "support_error")
        )
        for row in scores(head, depth=100):
            row |= empty | {"status": status, "reason": "3 of 5 entries are NaN"}
        head["records"][CASES[0], "backprop"]["status"] = status

    line = only(judge(plant))
    assert line["what"] == "status"
    assert f"was ok, is {status}: 3 of 5 entries are NaN" in line["reason"]


def test_a_record_that_failed_as_a_whole_is_a_regression_of_all_its_cells(judge):
    def plant(head):
        head["records"][CASES[0], "backprop"] |= {
            "status": "timeout",
            "reason": "not finished",
            "scores": [],
        }

    comparison = judge(plant)
    line = only(comparison)
    assert (line["what"], line["cells"]) == ("status", "3 depths")
    assert "was ok, is timeout: not finished" in line["reason"]
    assert judge(change_base=plant).cells().empty
    assert len(judge(change_base=plant).cells("improved")) == len(DEPTHS) * 5
    assert set(judge(plant, plant).frame["verdict"]) == {"same", "unmeasured"}


def test_a_finding_that_became_a_failure_is_a_regression(judge):
    def plant(status):
        return lambda side: side["records"][CASES[0], "backprop"].update(
            status=status, reason="so it is", scores=[]
        )

    assert only(judge(plant("error"), plant("unsupported")))["reason"].startswith(
        "was unsupported, is error"
    )
    assert judge(plant("unsupported"), plant("error")).cells().empty


def test_cells_that_vanished_are_regressions(judge):
    def without_estimator(side):
        side["estimators"].remove("backprop")

    def without_case(side):
        side["cases"].pop(0)

    def without_depth(side):
        record = side["records"][CASES[0], "backprop"]
        record["scores"] = [row for row in record["scores"] if row["depth"] != 100]

    def without_record(side):
        del side["records"][CASES[0], "backprop"]

    lines = summary.lines(judge(without_estimator))
    assert [(line["what"], line["estimator"], line["case"]) for line in lines] == [
        ("cell vanished", "backprop", name) for name in CASES
    ]
    assert "time and memory" in lines[0]["reason"]
    assert {line["case"] for line in summary.lines(judge(without_case))} == {CASES[0]}
    assert only(judge(without_depth))["cells"] == "1 depth"
    assert "is no longer measured" in only(judge(without_record))["reason"]


def test_what_only_head_has_is_new(judge):
    def without_estimator(side):
        side["estimators"].remove("backprop")

    def broken(side):
        for name in CASES:
            side["records"][name, "backprop"] |= {
                "status": "error",
                "reason": "not ready",
                "scores": [],
            }

    comparison = judge(change_base=without_estimator)
    assert comparison.cells().empty
    assert len(comparison.cells("new")) == len(CASES) * (len(DEPTHS) * 5 + len(TIMED) * 2)
    # A new estimator that does not work is no regression either.
    assert judge(broken, without_estimator).cells().empty


def test_a_case_with_a_new_meaning_under_its_old_name_is_a_regression(judge):
    def plant(head):
        for each in (*head["cases"], *(record["case"] for record in head["records"].values())):
            each["algorithm"] = "fista"

    lines = summary.lines(judge(plant))
    assert {line["what"] for line in lines} == {"case redefined"}
    assert "algorithm ista became fista" in lines[0]["reason"]


def test_a_doubling_of_memory_is_named_and_noise_is_not(judge):
    def plant(head, more):
        for cell in head["memory"]:
            if cell[1] == "backprop" and cell[0] == CASES[0]:
                head["memory"][cell] += more

    line = only(judge(lambda head: plant(head, MEMORY)))
    assert (line["what"], line["estimator"], line["base"], line["head"]) == (
        "memory",
        "backprop",
        "12 MiB",
        "24 MiB",
    )
    assert "12 MiB more" in line["reason"]
    # Beyond the ratio, but little; and much, but within the ratio.
    assert judge(lambda head: plant(head, 3.9 * 2**20)).cells().empty
    assert (
        judge(
            lambda head: plant(head, 6 * 2**20), limits=Limits.of({"memory_bytes": {"ratio": 2.0}})
        )
        .cells()
        .empty
    )


def test_memory_where_there_was_none_is_judged_by_its_size(judge):
    def none(side):
        side["memory"] = dict.fromkeys(side["memory"], float(BASELINE))

    assert len(judge(none).cells("improved")) == len(CASES) * len(ESTIMATORS) * len(TIMED)
    assert len(judge(change_base=none).cells()) == len(CASES) * len(ESTIMATORS) * len(TIMED)
    assert judge(none, none).cells().empty


def test_environments_match_logically(judge):
    def provenances(side, **changes):
        for record in side["records"].values():
            record["provenance"] |= changes

    def slow(head):
        head["samples"] = {
            cell: [2 * value for value in values] for cell, values in head["samples"].items()
        }

    def elsewhere(head):
        slow(head)
        provenances(head, machine="there", python="3.11.9", torch="2.10", asv_runner="0.3.3")

    def other_processor(head):
        slow(head)
        provenances(head, cpu="Difference engine")

    comparison = judge(elsewhere)
    assert len(comparison.cells()) == len(CASES) * len(ESTIMATORS) * len(TIMED)
    assert comparison.differences == {
        "python": ("3.11.4", "3.11.9"),
        "torch": ("2.9", "2.10"),
        "asv_runner": ("0.3.2", "0.3.3"),
    }
    comparison = judge(other_processor)
    assert comparison.cells().empty
    assert any("differ in cpu" in note for note in comparison.notes)
    text = summary.markdown(comparison, "base", "head", "quick")
    assert "| cpu | Abacus | Difference engine |" in text


def test_uncommitted_changes_are_noted(judge):
    def plant(head):
        head["records"][CASES[0], "backprop"]["provenance"]["dirty"] = True

    assert any("head was measured with uncommitted changes" in note for note in judge(plant).notes)


@pytest.mark.parametrize("lacks", ["backprop", "synthetic(n=10)", "ista(step=0.1)"])
def test_what_head_cannot_load_is_said_where_its_cells_vanish(judge, lacks):
    def plant(head):
        head["estimators"].remove("backprop")

    comparison = judge(
        plant, lacking={"base": {}, "head": {lacks: "cannot be loaded (mine.py, line 3)"}}
    )
    vanished = comparison.cells()
    assert set(vanished["reason"]) == {
        "was ok, is no longer measured: cannot be loaded (mine.py, line 3)"
    }
    assert comparison.notes[0] == "Left out on head: cannot be loaded (mine.py, line 3)"
    for text in (summary.plain(comparison), summary.markdown(comparison, "base", "head", "quick")):
        assert "no longer measured: cannot be loaded (mine.py, line 3)" in text


def test_a_file_named_without_its_class_counts_as_the_class(judge):
    def plant(base):
        base["estimators"].append("mine.py:Mine(window=3)")
        for name in CASES:
            base["records"][name, "mine.py:Mine(window=3)"] = base["records"][name, "backprop"] | {
                "estimator": "mine.py:Mine(window=3)"
            }

    vanished = judge(
        change_base=plant, lacking={"head": {"mine.py(window=3)": "SyntaxError"}}
    ).cells()
    assert set(vanished["reason"]) == {"was ok, is no longer measured: SyntaxError"}
