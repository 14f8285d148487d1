"""The command line: one clear line on stderr, and nothing written on wrong usage."""

from pathlib import Path

import pytest
from asv.results import Results
from filelock import FileLock
from support.estimators.plugin import write_plugin
from support.processes import repositories
from support.processes.commands import call, python

from pudle.measuring.execution import by_reason
from pudle.reports import load


@pytest.fixture
def repository(tmp_path):
    """A user's own repository with one commit."""
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "photograph.png").write_bytes(b"\x89PNG and nothing more")
    return repositories.repository(tmp_path / "repository")


WRONG = {
    "frobnicate": "No such command 'frobnicate'",
    "run --profile huge": "'huge' is not one of 'default', 'paper', 'quick'",
    "run --estimator backprp": "unknown estimator 'backprp' (did you mean 'backprop'?)",
    "run --case nothing*": "--case 'nothing*' matches no case of profile quick: known are",
    "run --loss lassso": "--loss 'lassso' is unknown (did you mean 'lasso'?): the datasets here",
    "run --dataset ridge --samples 0": "0 is not in the range x>=1",
    "run --dataset mine.py": "mine.py cannot be imported (FileNotFoundError",
    "run --dataset image_patches(folder='../damaged')": "unreadable image, photograph.png",
    "run --only": "--only needs at least one --estimator",
    "run --scores-only --again": "--again measures times and memories anew, and --scores-only",
    "report --depths 5 --label tab:x": "--depths and --label can be given for the table of errors",
    "list estimator": "unknown kind 'estimator' (did you mean 'estimators'?)",
    "submit estimator.py:Mine": "`pudle submit` went with version",
    "leaderboard": "compare with `pudle report A B`",
    "init-plugin my_window": "see docs/add_an_estimator.md",
    "denoise --baseline=BM3D": "`pudle run --experiment NAME`",
    "report --index=results/": "several results in one page, and `asv publish` draws commits",
    "report": "run `pudle run --profile quick` first",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_one_line_and_writes_nothing(line, repository):
    done = call(*line.split(), cwd=repository)
    assert done.returncode == 2 and done.stdout == ""
    assert WRONG[line] in done.stderr
    assert done.stderr.startswith("pudle: error: ") and done.stderr.count("\n") == 1, done.stderr
    assert [entry.name for entry in repository.iterdir()] == [".git"]


@pytest.mark.parametrize("line", ["run --help", "check nope"])
def test_help_and_a_wrong_name_are_quick_because_they_do_not_import_torch(line):
    code = f"import sys, pudle.cli\npudle.cli.run({line.split()})\nprint('torch' in sys.modules)"
    assert python(code).stdout.splitlines()[-1] == "False"


def test_a_second_run_on_the_same_folder_is_refused(tmp_path):
    (tmp_path / "quick").mkdir()
    with FileLock(tmp_path / "quick" / "lock"):
        done = call("run", "--scores-only", "--home", tmp_path)
    assert done.returncode == 2 and "another run is writing to" in done.stderr


def test_an_error_says_each_reason_once_and_how_many_results_it_cost():
    same = [(f"case-{number}", "error: too large") for number in range(8)]
    assert by_reason([("b", "timeout: y"), *same]) == [
        "b: timeout: y",
        "case-0, case-1, case-2 and 5 more: error: too large",
    ]


@pytest.mark.slow
def test_asv_cells_end_to_end_with_a_broken_plugin(repository, tmp_path, installed):
    """asv's benchmarks, in a user's repository: good cells are measured, the broken one is named,
    and the exit code is 2.
    """
    installed(write_plugin(tmp_path / "plugin", ["raises", "refuses"]))
    case = "sparse_gaussian_n_samples_20-ista-lasso"
    arguments = "run --dataset sparse_gaussian(n_samples=20) --depth 10 --only --case".split()
    arguments += [case, *"--estimator alternating --estimator raises --estimator refuses".split()]
    done = call(*arguments, cwd=repository)
    assert done.returncode == 2, done.stderr
    words = "sparse_gaussian(n_samples=20), ista, lasso"
    assert f"raises on {words}: error: at depth 10: ZeroDivisionError: planted" in done.stderr
    assert f"refuses on {words}: unsupported" in done.stdout
    results = load.load(repository / ".asv", "quick")
    frame = results.frame
    good = frame[(frame.estimator == "alternating") & (frame.status == "ok")]
    assert {*good.metric} >= {"relative_error", "code_error", "seconds", "memory_bytes"}

    # asv's history has the same times, and asv itself reads it.
    (path,) = (repository / ".asv" / "quick" / "results").glob("*/*-existing*.json")
    history = Results.load(str(path))
    timed = [
        cost
        for cost in results.costs
        if (cost.estimator, cost.metric) == ("alternating", "seconds")
    ]
    parameters = [["'alternating'"], [str(cost.depth) for cost in timed]]
    name = f"timing.{case.replace('-', '_')}.time_estimate"
    times = history.get_result_value(name, parameters)
    assert times == pytest.approx([cost.value for cost in timed], rel=1e-5)
    # A second run has nothing to do.
    again = call(*arguments, cwd=repository)
    assert "times and memories measured now" in done.stdout
    assert "times and memories" not in again.stdout

    report = call("report", cwd=repository)
    assert report.returncode == 2 and "raises" in report.stderr
    page = Path(report.stdout.strip().splitlines()[-1])
    assert (
        page.suffix == ".html"
        and "ZeroDivisionError: planted" in page.with_suffix(".md").read_text()
    )
