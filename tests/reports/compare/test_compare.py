"""The gate, on results in which the tests planted what is to be found, and on two real commits."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from paths import ROOT

from pudle.errors import InvalidArgument, MissingResults
from pudle.measuring.commits.pair import timed_cells
from pudle.measuring.runner import at_depth
from pudle.measuring.scoring import STATUSES
from pudle.reports.compare import summary as compare_text
from pudle.reports.compare.command import compare_command
from pudle.measuring.commits.times import TimeLimit, rounds_needed
from pudle.reports.compare.judge import COLUMNS, compare
from pudle.reports.compare.limits import Limits
from pudle.reports.compare.sides import load_commit, load_folder

ESTIMATORS = ("alternating", "backprop", "truncated(window=10)")
CASES = ("gaussian-ista-lasso", "patches-ista-lasso")
SEEDS, DEPTHS, TIMED = (0, 1, 2), (10, 100, 400), (10, 100)
BOUND = 1e-12
#: Above the process that does nothing: what a doubling has to be seen against.
MEMORY, BASELINE = 12 * 2**20, 190 * 2**20
REPEATS = 10


def error(estimator, seed, depth):
    return max((1 + 0.1 * seed) * 0.3 * (0.9 if estimator == "backprop" else 0.95) ** depth, BOUND)


def case(name):
    return {"name": name, "dataset": "synthetic(n=10)", "algorithm": "ista", "loss": "lasso", "seeds": list(SEEDS),
            "depths": list(DEPTHS), "targets": ["exact"], "dtype": "float64"}  # fmt: skip


def score(estimator, seed, depth):
    size = error(estimator, seed, depth)
    return {"seed": seed, "depth": depth, "target": "exact", "relative_error": size, "absolute_error": 2 * size,
            "cosine_error": size**2 / 2, "code_error": size, "support_error": 0.0, "at_floor": size == BOUND,
            "status": "ok", "reason": "", "diagnostics": {}}  # fmt: skip


def blank():
    """Return a side's contents, for a test to change before they are written."""
    provenance = {"pudle": "0.1.0", "python": "3.11.4", "torch": "2.9", "numpy": "2.0", "blas": "mkl", "asv": "0.6.6",
                  "asv_runner": "0.3.2", "machine": "here", "cpu": "Abacus", "cores": 2, "system": "Linux", "threads": 1,
                  "device": "cpu", "accelerator": "", "commit": "b" * 40, "dirty": False, "date": "2026-01-02"}  # fmt: skip
    records = {
        (name, spec): {
            "schema": 1, "key": "0" * 16, "profile": "quick", "case": case(name), "estimator": spec, "computes": "direct",
            "consistent_for": None, "status": "ok", "reason": "", "seconds": 1.0, "provenance": dict(provenance),
            "scores": [score(spec, *place) for place in itertools.product(SEEDS, DEPTHS)],
            "references": [{"seed": seed, "target": "exact", "status": "certified", "reason": "", "bound": BOUND,
                            "gradient_norm": 2.0} for seed in SEEDS],
        } for name in CASES for spec in ESTIMATORS
    }  # fmt: skip
    cells = list(itertools.product(CASES, ESTIMATORS, TIMED))
    return {"cases": [case(name) for name in CASES], "estimators": list(ESTIMATORS), "records": records,
            "memory": dict.fromkeys(cells, float(BASELINE + MEMORY)),
            "samples": {cell: [1e-3 * cell[2] * (1 + 0.01 * turn) for turn in range(REPEATS)] for cell in cells},
            "commit": "b" * 40}  # fmt: skip


def write(folder, content):
    """Lay out a side as a run leaves it."""
    folder.mkdir(parents=True)
    selection = {"profile": "quick", "cases": content["cases"], "estimators": content["estimators"],
                 "tracked_depths": list(DEPTHS), "timed_depths": list(TIMED)}  # fmt: skip
    (folder / "selection.json").write_text(json.dumps(selection))
    for number, record in enumerate(content["records"].values()):
        path = folder / "store" / record["case"]["name"] / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    names = [each["name"] for each in content["cases"]]
    parameters = [[repr(item) for item in items] for items in (names, content["estimators"], TIMED)]
    cells = list(itertools.product(names, content["estimators"], TIMED))
    samples = [content["samples"].get(cell) for cell in cells]
    columns = ["result", "params", "version", "started_at", "stats_q_25", "stats_q_75", "samples"]
    times = [None if each is None else float(np.median(each)) for each in samples]
    rows = {
        "timing.Time.time_estimate": [times, parameters, "1", 5, times, times, samples],
        "memory.Memory.peakmem_estimate": [[content["memory"].get(cell) for cell in cells], parameters, "1", 5],
        "memory.ProblemAlone.peakmem_problem": [[float(BASELINE)] * len(names), parameters[:1], "1", 5],
    }
    asv = {"version": 2, "commit_hash": content["commit"], "env_name": "existing", "date": 1,
           "params": {"machine": "here"}, "result_columns": columns, "results": rows}  # fmt: skip
    path = folder / "results" / "here" / f"{content['commit'][:8]}-existing.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asv))
    return folder


@pytest.fixture
def judge(tmp_path):
    """Judge a planted head by an unchanged base; `change` edits the head's contents."""

    def judge(change=lambda head: None, change_base=lambda base: None, limits=None, rounds=None):
        base, head = blank(), blank()
        change_base(base)
        change(head)
        number = len(list(tmp_path.iterdir()))
        folders = [write(tmp_path / str(number) / name, side) for name, side in (("base", base), ("head", head))]
        return compare(*map(load_folder, folders), limits, rounds)

    return judge


def scores(head, estimator="backprop", name=CASES[0], **place):
    """Yield the scores of one record, or of one place in it."""
    for row in head["records"][name, estimator]["scores"]:
        if all(row[key] == value for key, value in place.items()):
            yield row


def only(comparison):
    """Return the one line of findings there is."""
    (line,) = compare_text.lines(comparison)
    return line


def turns(ratio=lambda cell: 1.0, noise=0.1, rounds=16, seed=0):
    """Times of both sides in turns: log-normal noise, and now and then a round that the machine spoilt."""
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 20])))
    rows = []
    for cell in itertools.product(CASES, ESTIMATORS, TIMED):
        for turn in range(rounds):
            spoilt = np.where(draw.random(2) < 0.05, 3.0, 1.0)
            base, head = 1e-3 * cell[2] * np.exp(noise * draw.standard_normal(2)) * spoilt
            place = dict(zip(("case", "estimator", "depth"), cell, strict=True))
            rows.append(place | {"round": turn, "base": base, "head": head * ratio(cell), "reason": ""})
    return pd.DataFrame(rows)


# -- nothing planted


def test_unchanged_results_pass(judge):
    comparison = judge()
    assert tuple(comparison.frame.columns) == COLUMNS
    cells = len(CASES) * len(ESTIMATORS)
    assert len(comparison.frame) == cells * (len(DEPTHS) * 5 + len(TIMED) * 2)
    assert set(comparison.frame["verdict"]) == {"same"}
    assert comparison.differences == {}


def test_twenty_unchanged_repeats_raise_no_false_alarm(judge):
    alarms = [judge(rounds=turns(noise=0.3, seed=seed)).regressions["metric"].tolist() for seed in range(20)]
    assert not [metric for run in alarms for metric in run if metric != "seconds"]
    assert sum(bool(run) for run in alarms) <= 1


# -- accuracy


def test_a_planted_loss_of_accuracy_is_named(judge):
    def plant(head):
        for row in scores(head, depth=100, seed=1):
            row["relative_error"] *= 1.5

    comparison = judge(plant)
    line = only(comparison)
    assert (line["what"], line["estimator"], line["case"]) == ("accuracy", "backprop", CASES[0])
    row = comparison.regressions.iloc[0]
    assert row["change"] == pytest.approx(math.log10(1.5))
    assert row["limit"] == 0.1
    assert "seed 1" in row["reason"]


def test_accuracy_within_the_threshold_or_near_the_floor_passes(judge):
    def plant(head):
        for row in scores(head):
            # 400 layers reach the bound: there, ten times as much is rounding.
            row["relative_error"] *= 9.0 if row["depth"] == 400 else 1.2

    assert set(judge(plant).frame["verdict"]) == {"same"}


def test_the_floor_is_of_second_order_for_the_cosine(judge):
    def plant(head, size):
        for row in scores(head, depth=400):
            row["cosine_error"] = size

    assert judge(lambda head: plant(head, (9 * BOUND) ** 2 / 2)).regressions.empty
    assert only(judge(lambda head: plant(head, (20 * BOUND) ** 2 / 2)))["what"] == "accuracy"


def test_a_gain_of_accuracy_is_told_and_no_failure(judge):
    def plant(head):
        for row in scores(head, depth=10):
            row["relative_error"] /= 2

    comparison = judge(plant)
    assert comparison.count("regression") == 0
    assert comparison.count("improved") == 1


def test_thresholds_are_per_metric(judge):
    def plant(head):
        for row in scores(head, depth=10):
            row["code_error"] *= 3

    assert only(judge(plant))["what"] == "accuracy"
    assert judge(plant, limits=Limits.of({"code_error": {"decades": 0.5}})).regressions.empty


# -- what is no number


def test_nan_is_a_regression(judge):
    def plant(head):
        for row in scores(head, depth=100):
            row["relative_error"] = row["cosine_error"] = None

    line = only(judge(plant))
    assert (line["what"], line["estimator"], line["cells"]) == ("status", "backprop", "1 depth")
    assert "without a value" in line["reason"]


def test_nan_in_the_frame_itself_is_a_regression(tmp_path):
    base = load_folder(write(tmp_path / "base", blank()))
    frame = base.frame.copy()
    planted = (frame["estimator"] == "backprop") & (frame["metric"] == "cosine_error") & (frame["depth"] == 100)
    frame.loc[planted, "value"] = math.nan
    row = compare(base, dataclasses.replace(base, frame=frame)).regressions
    assert set(row["rule"]) == {"nan"}
    assert set(row["metric"]) == {"cosine_error"}


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "ok"])
def test_a_cell_that_is_no_longer_ok_is_a_regression_with_its_reason(judge, status):
    def plant(head):
        empty = dict.fromkeys(("relative_error", "absolute_error", "cosine_error", "code_error", "support_error"))
        for row in scores(head, depth=100):
            row |= empty | {"status": status, "reason": "3 of 5 entries are NaN"}
        head["records"][CASES[0], "backprop"]["status"] = status

    line = only(judge(plant))
    assert line["what"] == "status"
    assert f"was ok, is {status}: 3 of 5 entries are NaN" in line["reason"]


def test_a_record_that_failed_as_a_whole_is_a_regression_of_all_its_cells(judge):
    def plant(head):
        head["records"][CASES[0], "backprop"] |= {"status": "timeout", "reason": "not finished", "scores": []}

    comparison = judge(plant)
    line = only(comparison)
    assert (line["what"], line["cells"]) == ("status", "3 depths")
    assert "was ok, is timeout: not finished" in line["reason"]
    assert judge(change_base=plant).count("regression") == 0
    assert judge(change_base=plant).count("improved") == len(DEPTHS) * 5
    assert set(judge(plant, plant).frame["verdict"]) == {"same", "unmeasured"}


def test_a_finding_that_became_a_failure_is_a_regression(judge):
    def plant(status):
        return lambda side: side["records"][CASES[0], "backprop"].update(status=status, reason="so it is", scores=[])

    assert only(judge(plant("error"), plant("unsupported")))["reason"].startswith("was unsupported, is error")
    assert judge(plant("unsupported"), plant("error")).regressions.empty


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

    lines = compare_text.lines(judge(without_estimator))
    assert [(line["what"], line["estimator"], line["case"]) for line in lines] == [
        ("cell vanished", "backprop", name) for name in CASES
    ]
    assert "time and memory" in lines[0]["reason"]
    assert {line["case"] for line in compare_text.lines(judge(without_case))} == {CASES[0]}
    assert only(judge(without_depth))["cells"] == "1 depth"
    assert "is no longer measured" in only(judge(without_record))["reason"]


def test_what_only_head_has_is_new(judge):
    def without_estimator(side):
        side["estimators"].remove("backprop")

    def broken(side):
        for name in CASES:
            side["records"][name, "backprop"] |= {"status": "error", "reason": "not ready", "scores": []}

    comparison = judge(change_base=without_estimator)
    assert comparison.count("regression") == 0
    assert comparison.count("new") == len(CASES) * (len(DEPTHS) * 5 + len(TIMED) * 2)
    # Of a new estimator that does not work, head is told, and not failed for it.
    assert judge(broken, without_estimator).count("regression") == 0


def test_a_case_that_means_something_else_under_its_old_name_is_a_regression(judge):
    def plant(head):
        for each in (*head["cases"], *(record["case"] for record in head["records"].values())):
            each["algorithm"] = "fista"

    lines = compare_text.lines(judge(plant))
    assert {line["what"] for line in lines} == {"case redefined"}
    assert "algorithm ista became fista" in lines[0]["reason"]


# -- time


def test_a_slower_estimator_is_told_from_noise(judge):
    planted = turns(lambda cell: 1.5 if cell[1] == "backprop" else 1.0, noise=0.2)
    lines = compare_text.lines(judge(rounds=planted))
    assert [(line["what"], line["estimator"], line["cells"]) for line in lines] == [("time", "backprop", "2 depths")] * 2
    assert "1." in lines[0]["reason"] and "times the time" in lines[0]["reason"]


def test_one_slower_cell_among_many_is_found(judge):
    cell = (CASES[1], "alternating", 100)
    # What seems slower is timed again for twice as many rounds, and that decides.
    rounds = 2 * rounds_needed(len(CASES) * len(ESTIMATORS) * len(TIMED), TimeLimit().significance)
    row = judge(rounds=turns(lambda each: 1.6 if each == cell else 1.0, rounds=rounds)).regressions
    assert row[["case", "estimator", "depth"]].to_numpy().tolist() == [list(cell)]


def test_a_ratio_within_the_noise_is_undecided(judge):
    frame = judge(rounds=turns(lambda cell: 1.5, noise=0.2, rounds=4)).frame
    times = frame[frame["metric"] == "seconds"]
    assert "regression" not in set(times["verdict"])
    assert "undecided" in set(times["verdict"])
    assert any("within the noise" in reason for reason in times["reason"])


def test_a_slow_down_within_the_threshold_passes(judge):
    assert judge(rounds=turns(lambda cell: 1.15, noise=0.02)).regressions.empty


def test_a_faster_estimator_is_improved(judge):
    assert judge(rounds=turns(lambda cell: 0.5, noise=0.02)).count("improved") == len(CASES) * len(ESTIMATORS) * len(TIMED)


def test_a_time_that_could_not_be_taken_is_a_regression_unless_base_has_none(judge):
    rounds = turns(noise=0.0)
    first = (rounds["case"] == CASES[0]) & (rounds["estimator"] == "backprop") & (rounds["depth"] == 10)
    rounds.loc[first, "head"] = math.nan
    rounds.loc[first, "reason"] = "ValueError: broken"
    assert "ValueError: broken" in only(judge(rounds=rounds))["reason"]
    rounds.loc[first, "base"] = math.nan
    assert judge(rounds=rounds).regressions.empty


def test_two_separate_runs_are_judged_by_their_repeats(judge):
    def plant(head, ratio):
        for cell in head["samples"]:
            if cell[1] == "backprop":
                head["samples"][cell] = [ratio * value for value in head["samples"][cell]]

    comparison = judge(lambda head: plant(head, 1.5))
    assert {line["estimator"] for line in compare_text.lines(comparison)} == {"backprop"}
    assert any("separate runs" in note for note in comparison.notes)
    assert judge(lambda head: plant(head, 1.2)).regressions.empty

    def few(side):
        side["samples"] = {cell: values[:2] for cell, values in side["samples"].items()}

    def few_and_slow(head):
        plant(head, 2.0)
        few(head)

    # Two repeats cannot show it, whatever the ratio; it is told all the same.
    assert judge(few_and_slow, few).count("undecided") == len(CASES) * len(TIMED)


def test_rounds_are_enough_for_one_cell_among_many():
    for cells in (1, 8, 48, 500):
        assert cells * 0.5 ** rounds_needed(cells, 0.01) <= 0.01


# -- memory


def test_a_doubling_of_memory_is_named_and_noise_is_not(judge):
    def plant(head, more):
        for cell in head["memory"]:
            if cell[1] == "backprop" and cell[0] == CASES[0]:
                head["memory"][cell] += more

    line = only(judge(lambda head: plant(head, MEMORY)))
    assert (line["what"], line["estimator"], line["base"], line["head"]) == ("memory", "backprop", "12 MiB", "24 MiB")
    assert "12 MiB more" in line["reason"]
    # A third more, but next to nothing; and much, but no third.
    assert judge(lambda head: plant(head, 3.9 * 2**20)).regressions.empty
    assert judge(lambda head: plant(head, 6 * 2**20), limits=Limits.of({"memory_bytes": {"ratio": 2.0}})).regressions.empty


def test_memory_where_there_was_none_is_judged_by_its_size(judge):
    def none(side):
        side["memory"] = dict.fromkeys(side["memory"], float(BASELINE))

    assert judge(none).count("improved") == len(CASES) * len(ESTIMATORS) * len(TIMED)
    assert judge(change_base=none).count("regression") == len(CASES) * len(ESTIMATORS) * len(TIMED)
    assert judge(none, none).regressions.empty


# -- environments


def test_environments_match_logically(judge):
    def provenances(side, **changes):
        for record in side["records"].values():
            record["provenance"] |= changes

    def slow(head):
        head["samples"] = {cell: [2 * value for value in values] for cell, values in head["samples"].items()}

    def elsewhere(head):
        slow(head)
        provenances(head, machine="there", python="3.11.9", torch="2.10", asv_runner="0.3.3")

    def other_processor(head):
        slow(head)
        provenances(head, cpu="Difference engine")

    comparison = judge(elsewhere)
    assert comparison.count("regression") == len(CASES) * len(ESTIMATORS) * len(TIMED)
    assert comparison.differences == {
        "python": ("3.11.4", "3.11.9"),
        "torch": ("2.9", "2.10"),
        "asv_runner": ("0.3.2", "0.3.3"),
    }
    comparison = judge(other_processor)
    assert comparison.regressions.empty
    assert any("differ in cpu" in note for note in comparison.notes)
    text = compare_text.markdown(comparison, "base", "head", "quick")
    assert "| cpu | Abacus | Difference engine |" in text


def test_uncommitted_changes_are_told(judge):
    def plant(head):
        head["records"][CASES[0], "backprop"]["provenance"]["dirty"] = True

    assert any("head was measured with uncommitted changes" in note for note in judge(plant).notes)


# -- thresholds


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"relative_eror": {}}, "no entry 'relative_eror': known are relative_error"),
        ({"seconds": {"ration": 2}}, "seconds has no entry 'ration': known are ratio, significance"),
        ({"seconds": 2}, "seconds=2 is not a table of thresholds"),
        ({"seconds": {"ratio": "2"}}, "ratio='2' is not a positive number"),
        ({"floor_multiple": -1}, "floor_multiple=-1 is not a positive number"),
    ],
)
def test_thresholds_that_cannot_be_used_are_refused(table, told):
    with pytest.raises(InvalidArgument) as refused:
        Limits.of(table)
    assert told in str(refused.value)


def test_the_repository_states_the_defaults():
    import tomllib

    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pudle"]["compare"]
    assert Limits.of(table) == Limits()
    assert set(table) == {field.name for field in dataclasses.fields(Limits)}


# -- Markdown


def test_markdown_is_a_table_per_kind_and_survives_any_text(judge):
    def plant(head):
        for row in scores(head, "truncated(window=10)", depth=100):
            row |= {"relative_error": None, "status": "error", "reason": "a | b <img src=x>\nnext"}

    text = compare_text.markdown(judge(plant), "ma|in", "head", "quick")
    assert text.startswith(compare_text.MARKER)
    rows = [line for line in text.splitlines() if line.startswith("| status")]
    assert len(rows) == 1
    assert rows[0].replace("\\|", "").count("|") == 8
    assert "<img" not in text and "a \\| b &lt;img" in rows[0]


def test_markdown_of_many_findings_fits_a_comment(judge):
    names = [f"case-{number}-with-a-rather-long-name-lasso" for number in range(200)]

    def many(side):
        record = side["records"][CASES[0], "backprop"]
        side["cases"] = [case(name) for name in names]
        side["records"] = {(name, "backprop"): copy.deepcopy(record) | {"case": case(name)} for name in names}
        side["estimators"] = ["backprop"]

    def worse(side):
        many(side)
        for name in names:
            for row in scores(side, name=name):
                row["relative_error"] *= 10

    text = compare_text.markdown(judge(worse, many), "base", "head", "quick")
    assert len(text) < 65_536
    assert "and 170 more lines" in text


# -- the command


def invoke(*arguments):
    return CliRunner().invoke(compare_command, [str(argument) for argument in arguments])


@pytest.fixture
def folders(tmp_path):
    """Three homes: unchanged, unchanged, and one that lost accuracy."""
    lost = blank()
    for row in scores(lost):
        row["relative_error"] *= 1e3
    return [write(tmp_path / name / "quick", side) for name, side in (("a", blank()), ("b", blank()), ("c", lost))]


def test_exit_codes_and_files(folders, tmp_path):
    base, same, lost = folders
    good = invoke(base, same, "--markdown", tmp_path / "good.md")
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "no regression in 114 cells")
    assert "✅" in (tmp_path / "good.md").read_text()
    # A home stands for the profile's folder in it.
    bad = invoke(base.parent, lost.parent, "--markdown", tmp_path / "bad.md", "--csv", tmp_path / "bad.csv")
    assert bad.exit_code == 1
    assert bad.stdout.startswith(f"regression: accuracy of backprop on {CASES[0]} (3 depths): ")
    assert "❌" in (tmp_path / "bad.md").read_text()
    assert (pd.read_csv(tmp_path / "bad.csv")["verdict"] == "regression").sum() == 3
    assert (bad.stderr, good.stderr) == ("", "")


def pudle(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "pudle", "compare", *map(str, arguments)], cwd=cwd, capture_output=True,
                          text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip


def git(folder, *arguments):
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_wrong_usage_is_one_line_and_exit_code_2(folders, tmp_path):
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q")
    git(place, "commit", "-q", "--allow-empty", "-m", "first")
    wrong = {
        "neither a folder with results nor a commit here": ("nowhere", "HEAD"),
        "a folder without results": (tmp_path, folders[0]),
        "let `pudle compare --run` make them": ("HEAD", "HEAD"),
        "--run measures commits": (folders[0], "HEAD", "--run"),
        "add --run": ("HEAD", "HEAD", "--case", "x*"),
        "--device choose what --run measures": ("HEAD", "HEAD", "--device", "cpu"),
        "--only needs at least one --estimator": ("HEAD", "HEAD", "--run", "--only"),
        "cannot write to": (folders[0], folders[1], "--markdown", folders[0] / "selection.json" / "x.md"),
    }
    for told, arguments in wrong.items():
        done = pudle(*arguments, cwd=place)
        assert done.returncode == 2, told
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""
    if not torch.cuda.is_available():
        wrong = pudle("HEAD", "HEAD", "--run", "--device", "cuda", cwd=place)
        assert (wrong.returncode, "torch sees no CUDA device here" in wrong.stderr) == (2, True)
    (place / "pyproject.toml").write_text("[tool.pudle.compare]\nseconds = 3\n")
    done = pudle(folders[0], folders[1], cwd=place)
    assert (done.returncode, "seconds=3 is not a table" in done.stderr) == (2, True)


def test_a_defect_of_the_suite_does_not_pass_for_a_regression():
    crash = "import pudle.cli as cli; cli.pudle.main = lambda **options: 1 / 0; cli.main()"
    done = subprocess.run([sys.executable, "-c", crash], capture_output=True, text=True)
    assert (done.returncode, "ZeroDivisionError" in done.stderr) == (2, True)


def test_surfaces_in_a_store_are_no_records(folders, tmp_path):
    path = folders[0] / "store" / "artifacts" / "surface.json"
    path.parent.mkdir()
    path.write_text('{"kind": "window_surface", "key": "0", "rows": []}')
    assert len(load_commit("b" * 40, "old", folders[0].parent, "quick").records) == len(CASES) * len(ESTIMATORS)


def test_one_depth_that_diverges_does_not_hide_the_others(tmp_path):
    content = blank()
    (row,) = scores(content, depth=100, seed=1)
    row |= {"status": "diverged", "reason": "codes grow"}
    record = content["records"][CASES[0], "backprop"]
    record |= {"status": "diverged", "reason": "codes grow"}
    assert at_depth(record, 10) == {"status": "ok", "reason": ""}
    assert at_depth(record, 100) == {"status": "diverged", "reason": "codes grow"}
    # Of a depth that has no scores, the record as a whole tells.
    assert at_depth(record, 50)["status"] == "diverged"
    content["records"][CASES[1], "backprop"] |= {"status": "timeout", "reason": "not finished", "scores": []}
    folder = write(tmp_path / "quick", content)
    left_out = {(CASES[0], "backprop", 100), *((CASES[1], "backprop", depth) for depth in TIMED)}
    assert set(timed_cells(folder)) == set(itertools.product(CASES, ESTIMATORS, TIMED)) - left_out


# -- two commits in one home


def test_results_of_two_commits_live_side_by_side(tmp_path):
    """The second commit changed one estimator: the other's record still carries the first commit."""
    old, new = "b" * 40, "c" * 40
    content = blank()
    home = write(tmp_path / "quick", content).parent
    folder = home / "quick"
    selection = json.loads((folder / "selection.json").read_text())
    paths = sorted((folder / "store").glob("*/*.json"))
    kept = [str(path.relative_to(folder / "store")) for path in paths]

    def remember(commit, records):
        path = folder / "runs" / f"{commit}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"commit": commit, "dirty": False, "selection": selection, "records": records}))

    remember(old, kept)
    changed = [path for path in paths if json.loads(path.read_text())["estimator"] == "backprop"]
    for path in changed:
        record = json.loads(path.read_text())
        for row in record["scores"]:
            row["relative_error"] *= 100
        record["provenance"] |= {"commit": new, "date": "2026-01-03"}
        (path.parent / f"new-{path.name}").write_text(json.dumps(record))
    remember(new, [name for name in kept if folder / "store" / name not in changed]
             + [str((path.parent / f"new-{path.name}").relative_to(folder / "store")) for path in changed])  # fmt: skip
    results = folder / "results" / "here"
    asv = json.loads((results / "bbbbbbbb-existing.json").read_text())
    (results / "cccccccc-existing.json").write_text(json.dumps(asv | {"commit_hash": new}))
    sides = [load_commit(commit, commit, home, "quick") for commit in (old, new)]
    assert [set(side.frame["commit"]) for side in sides] == [{old}, {new}]
    assert [side.notes for side in sides] == [(), ()]
    assert {line["estimator"] for line in compare_text.lines(compare(*sides))} == {"backprop"}
    with pytest.raises(MissingResults, match="no results of commit nobody"):
        load_commit("d" * 40, "nobody", home, "quick")


def test_results_of_a_version_without_its_runs_are_found_by_their_records(tmp_path):
    home = write(tmp_path / "quick", blank()).parent
    assert len(load_commit("b" * 40, "old", home, "quick").frame) == 2 * 3 * (3 * 3 * 5 + 2 * 2)


@pytest.mark.skipif("PUDLE_SLOW_TESTS" not in os.environ, reason="minutes: set PUDLE_SLOW_TESTS to run it")
def test_two_real_commits_with_a_planted_loss(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    path = clone / "estimators" / "alternating.py"
    source = path.read_text()
    planted = source.replace("direct_gradients(problem, codes)[0]", "direct_gradients(problem, codes)[0].neg()")
    assert planted != source
    path.write_text(planted)
    git(clone, "commit", "-qam", "planted")
    done = pudle("HEAD~1", "HEAD", "--run", "--case", "sparse_gaussian-ista-lasso", "--only", "--estimator", "alternating",
                 "--estimator", "one_step", cwd=clone)  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("regression: accuracy of alternating on sparse_gaussian-ista-lasso")
    assert "one_step" not in done.stdout
    # Surfaces are in no verdict, and cost more than the scores.
    assert not list(clone.glob(".asv/compare/*/*/quick/store/artifacts/*"))
    # Nothing is left of the two builds, and what was measured can be judged again.
    assert len(git(clone, "worktree", "list").splitlines()) == 1
    assert pudle("HEAD~1", "HEAD", cwd=clone).returncode == 1
