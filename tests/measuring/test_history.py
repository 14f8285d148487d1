"""asv's results of a commit, from the store: their values, and what is said where they cannot
be written.
"""

import json
import math
import statistics
import subprocess
import sys
from types import SimpleNamespace

import pytest
from asv import util
from asv.results import Results
from support.problems.small_problems import TINY
from support.processes.repositories import git, repository
from support.records.synthetic import case, record, write, write_every_kind

from pudle.measuring import history
from pudle.measuring.store import read_stored
from pudle.workers import Outcome

CASE, ACCURACY = "synthetic-ista-lasso", "accuracy.synthetic_ista_lasso.track_{}"


@pytest.fixture
def stored(tmp_path):
    """A folder of results with a file of every kind, a repository, and its commit."""
    write_every_kind(tmp_path / "home")
    root = repository(tmp_path / "repository")
    return tmp_path / "home" / "quick", root, git(root, "rev-parse", "HEAD")


def test_asv_reads_the_median_over_seeds_and_no_time_of_a_depth_that_was_not_timed(stored):
    folder, root, commit = stored
    assert history.update_history(folder, root, commit) == []
    (path,) = (folder / "results").glob(f"*/{commit[:8]}-*.json")
    results = Results.load(str(path))
    assert results.commit_hash == commit
    assert results.date == 1000 * int(git(root, "show", "--no-patch", "--format=%ct", commit))
    parameters = [["'alternating'", "'backprop'"], ["10"]]
    scores = read_stored(folder.parent, folder.name).scores
    for metric in ("relative_error", "code_error", "cosine_error"):
        medians = [
            statistics.median(
                getattr(row, metric) for row in scores[CASE, name].scores if row.depth == 10
            )
            for name in ("alternating", "backprop")
        ]
        values = results.get_result_value(ACCURACY.format(metric), parameters)
        assert values == pytest.approx(medians, rel=1e-15), metric
    assert results.get_result_value(ACCURACY.format("status"), parameters) == [0.0, 0.0]
    for name in ("timing.{}.time_estimate", "memory.{}.peakmem_estimate"):
        assert all(
            map(
                math.isnan,
                results.get_result_value(name.format(CASE.replace("-", "_")), parameters),
            )
        )
    # The folder of results can be copied with what its configuration names.
    configuration = json.loads((folder / "asv.conf.json").read_text())
    assert (folder / configuration["repo"]).resolve() == root.resolve()


def published(folder):
    """Publish with asv, and return its benchmarks with their estimators and depths, and the values
    of each graph of relative errors, by commit.
    """
    command = [sys.executable, "-m", "asv", "publish", "--config", str(folder / "asv.conf.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    index = json.loads((folder / "html" / "index.json").read_text())
    listed = {name: benchmark["params"] for name, benchmark in index["benchmarks"].items()}
    graphs = {
        path.stem: [values for _, values in json.loads(path.read_text())]
        for path in sorted((folder / "html" / "graphs").rglob("*.track_relative_error.json"))
        if "summary" not in path.parts
    }
    return listed, graphs


def test_asv_publishes_what_any_command_measured_and_not_only_the_last(stored):
    folder, root, commit = stored
    home, other = folder.parent, case("other-ista-lasso")
    assert history.update_history(folder, root, commit) == []
    # One estimator less at the same commit, then another case at a second.
    write(home, [record(case(), "backprop")])
    assert history.update_history(folder, root, commit) == []
    git(root, "commit", "-q", "--allow-empty", "-m", "second")
    write(home, [record(other, "backprop")])
    assert history.update_history(folder, root, git(root, "rev-parse", "HEAD")) == []
    listed, graphs = published(folder)
    name = ACCURACY.format("relative_error")
    other_name = name.replace("synthetic", "other")
    assert listed[name] == [["'alternating'", "'backprop'"], ["10"]]
    assert listed[other_name] == [["'backprop'"], ["10"]]
    (values,) = graphs[name]
    assert all(value > 0 for value in values) and len(values) == 2
    assert len(graphs[other_name]) == 1
    # `asv run` lists its own benchmarks alone: result files say what else there is.
    (folder / "results" / "benchmarks.json").unlink()
    assert history.update_history(folder, root, git(root, "rev-parse", "HEAD")) == []
    assert published(folder) == (listed, graphs)


def test_asv_shows_no_cell_as_failed_that_a_commit_did_not_measure(stored):
    folder, root, commit = stored
    home = folder.parent
    write(home, [record(case(), "backprop")])
    assert history.update_history(folder, root, commit) == []
    git(root, "commit", "-q", "--allow-empty", "-m", "second")
    write(home, [record(case(), "alternating")])
    assert history.update_history(folder, root, git(root, "rev-parse", "HEAD")) == []
    for name in (commit, "HEAD"):
        command = [sys.executable, "-m", "asv", "show", "--config", str(folder / "asv.conf.json")]
        done = subprocess.run(
            [*command, git(root, "rev-parse", name)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "n/a" in done.stdout and "failed" not in done.stdout


def test_an_own_result_of_asv_keeps_its_statistics_and_failures_beside_added_cells(tmp_path):
    path, name = tmp_path / "results.json", "timing.Case.time_estimate"
    columns = ["result", "params", "version", "started_at", "duration", "stats_repeat"]
    rows = {name: [[1.5, None], [["'b'"], ["1", "10"]], "1", 5, 2.0, [7, None]]}
    rows["failed"] = [None, [["'b'"], ["1", "10"]], "1"]
    rows["older"] = [[2.0], [["'b'"], ["1"]], "0"]
    content = {"result_columns": columns, "results": rows, "durations": {"<build>": 3.0}}
    util.write_json(str(path), content, Results.api_version)
    parameters = [["'a'", "'b'"], ["1", "10"]]
    drawn = {each: {"name": each, "params": parameters, "version": "1"} for each in rows}
    history._add_unmeasured_cells(path, drawn)
    written = util.load_json(str(path), api_version=Results.api_version)
    result, *others = written["results"][name]
    assert [*map(str, result)] == ["nan", "nan", "1.5", "None"]
    assert others == [parameters, "1", 5, 2.0, [None, None, 7, None]]
    assert [*map(str, written["results"]["failed"][0])] == ["nan", "nan", "None", "None"]
    assert written["results"]["older"] == rows["older"]
    assert written["durations"] == content["durations"]
    path.write_text("{")
    history._add_unmeasured_cells(path, drawn)
    assert path.read_text() == "{"


def test_a_history_that_was_not_written_is_said_and_tried_again(stored, monkeypatch):
    folder, root, commit = stored
    outcomes = iter([Outcome(None, "error", "no space left"), Outcome(None)])
    monkeypatch.setattr(history, "run_in_copy", lambda *arguments: next(outcomes))
    noted = folder / "runs" / f"{commit}.history"
    broken = history.update_history(folder, root, commit)
    assert broken == [("asv's history of commits was not written", "no space left")]
    assert not noted.exists()
    # The second outcome is taken, and after it none is needed.
    assert history.update_history(folder, root, commit) == [] and noted.exists()
    assert history.update_history(folder, root, commit) == []


class Cells:
    """A class of benchmarks as asv finds it."""

    case = TINY

    def __init__(self, metric="", rows=None):
        self.metric, self.rows = metric, rows

    def look_up(self, record, depth):
        self.value = record[depth]

    def track(self, estimator, depth):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        # asv shows the process's peak, of which the estimate is a part.
        ({"value": 3.0, "baseline": 40.0}, 43.0),
        ({"value": 2.0, "samples": [1.0, 2.0, 3.0]}, [1.0, 2.0, 3.0]),
        ({"value": 2.0}, 2.0),
        ({"status": "error"}, None),
        ({"status": "skipped"}, math.nan),
        (None, math.nan),
    ],
)
def test_a_cost_is_a_peak_samples_a_failure_or_skipped(record, expected):
    empty = {"status": "ok", "value": None, "baseline": None, "samples": []}
    costs = {("seconds", TINY.name, "one", 5): SimpleNamespace(**empty | record)} if record else {}
    function = Cells("seconds").track
    value = history._cost_value(SimpleNamespace(costs=costs), function, "one", 5)
    assert value == pytest.approx(expected, nan_ok=True) if expected is not None else value is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2.0), (NotImplementedError("a finding"), math.nan), (RuntimeError("broke"), None)],
)
def test_an_accuracy_is_a_number_skipped_for_a_finding_and_missing_for_a_failure(value, expected):
    stored = SimpleNamespace(scores={(TINY.name, "one"): {5: value}})
    found = history._accuracy_value(stored, Cells().track, "one", 5)
    assert found == pytest.approx(expected, nan_ok=True) if expected is not None else found is None
    # An estimator or a depth that is not stored is skipped.
    assert math.isnan(history._accuracy_value(stored, Cells().track, "other", 5))
    assert math.isnan(history._accuracy_value(stored, Cells().track, "one", 6))
