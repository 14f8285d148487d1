"""`pudle compare`: exit codes, files and wrong usage."""

import pandas as pd
import pytest
import torch
from support.processes.commands import call
from support.processes.repositories import repository
from support.records import synthetic
from support.records.two_sides import CASES, blank, scores, write

from pudle.errors import MissingResults
from pudle.measuring.commits.pair import CommitPair
from pudle.measuring.stored_files import CommitRounds
from pudle.reports.compare import judge, sides


@pytest.fixture
def folders(tmp_path):
    """Three homes: unchanged, unchanged, and one that lost accuracy."""
    lost = blank()
    for row in scores(lost):
        row["relative_error"] *= 1e3
    return [
        write(tmp_path / name / "quick", side)
        for name, side in (("a", blank()), ("b", blank()), ("c", lost))
    ]


def test_exit_codes_and_files(folders, tmp_path):
    base, same, lost = folders
    good = call("compare", base, same, "--markdown", tmp_path / "good.md")
    assert good.returncode == 0 and good.stdout.splitlines()[-1].startswith("no regression in ")
    assert "✅" in (tmp_path / "good.md").read_text()
    # A home stands for the profile's folder in it.
    bad = call(
        "compare",
        base.parent,
        lost.parent,
        "--markdown",
        tmp_path / "bad.md",
        "--csv",
        tmp_path / "bad.csv",
    )
    assert bad.returncode == 1
    assert bad.stdout.startswith(f"regression: accuracy of backprop on {CASES[0]} (3 depths): ")
    assert "❌" in (tmp_path / "bad.md").read_text()
    assert (pd.read_csv(tmp_path / "bad.csv")["verdict"] == "regression").sum() == 3
    assert (bad.stderr, good.stderr) == ("", "")


@pytest.fixture
def fails(tmp_path):
    """Run `pudle compare` in a repository with one commit, and return its error, which must be one
    line and exit code 2.
    """
    place = repository(tmp_path / "repository")

    def fails(*arguments, cwd=place):
        done = call("compare", *arguments, cwd=cwd)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        return done.stderr

    return fails


def test_wrong_usage_is_one_line_and_exit_code_2(folders, tmp_path, fails):
    wrong = {
        "neither results nor a commit": ("nowhere", "HEAD"),
        "a folder without results": (tmp_path, folders[0]),
        "let `pudle compare --run` make them": ("HEAD", "HEAD"),
        "--run measures commits": (folders[0], "HEAD", "--run"),
        "add --run": ("HEAD", "HEAD", "--case", "x*"),
        "--only needs at least one --estimator": ("HEAD", "HEAD", "--run", "--only"),
        "cannot write to": (*folders[:2], "--markdown", folders[0] / "selection.json" / "x.md"),
    }
    for text, arguments in wrong.items():
        assert text in fails(*arguments)
    if not torch.cuda.is_available():
        assert "torch sees no CUDA device here" in fails(
            "HEAD", "HEAD", "--run", "--device", "cuda"
        )
    settings = tmp_path / "repository" / "pyproject.toml"
    for written, text in {
        "[tool.pudle.compare]\nseconds = 3\n": "at `$.seconds`",
        "[tool": "pyproject.toml cannot be read",
    }.items():
        settings.write_text(written)
        assert text in fails(*folders[:2])


def test_commits_outside_any_repository_are_refused_with_the_reason(fails, tmp_path):
    for run in ([], ["--run"]):
        assert "git repository that you are in" in fails("main", "HEAD", *run, cwd=tmp_path)


def test_results_without_cases_are_refused(folders, tmp_path, fails):
    home = synthetic.write(tmp_path / "only", [], cases=[], estimators=[])
    synthetic.write_experiments(home, [synthetic.training("one")])
    assert "only cases are judged" in fails(home, folders[0])


def test_a_defect_of_the_suite_does_not_pass_for_a_regression(folders, monkeypatch):
    """Python's own exit code for a crash is 1."""
    monkeypatch.setattr(judge, "compare", lambda *_, **__: 1 / 0)
    done = call("compare", *folders[:2])
    assert done.returncode == 2
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("just_measured, has_runs", [(False, True), (False, False), (True, True)])
def test_a_narrow_pair_does_not_stand_for_what_runs_have(
    tmp_path, monkeypatch, just_measured, has_runs
):
    """What `--run` measured of two commits, a few cells perhaps, was judged later in place of their
    whole runs, and passed.
    """
    pair = CommitPair(tmp_path, "b" * 40, "c" * 40, "quick")
    for side in ("base", "head"):
        write(pair.side(side), blank())
    CommitRounds(rounds=[]).write(pair.rounds_path)
    runs = {name: object() for name in ("main", "HEAD")}

    def of_run(name, home, profile):
        if not has_runs:
            raise MissingResults(name)
        return runs[name]

    monkeypatch.setattr(sides, "load_side", of_run)
    loaded, together = sides.load_commits(runs, pair, just_measured=just_measured)
    if just_measured or not has_runs:
        assert together.rounds == [] and all(side.rows for side in loaded)
    else:
        assert together is None and loaded == [*runs.values()]
