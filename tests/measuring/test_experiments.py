"""Experiments: carried out once, in processes that can be killed; whatever breaks costs no one
else.
"""

from pathlib import Path

import pytest
from support.estimators.plugin import write_package
from support.problems.small_problems import TINY, filled, selected
from support.processes.commands import call
from support.processes.repositories import git

from pudle import LearningExperiment, names
from pudle.measuring.execution import execute
from pudle.measuring.results.experiment import CarriedExperiment, measure_in_threads
from pudle.measuring.run import Run
from pudle.reports.load import load
from pudle.threads import number_of_threads
from pudle.workers import Pool

PLUGIN = """
import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pudle import Experiment, LearningExperiment, MissingDependency, ExperimentResult


@dataclass(frozen=True)
class Planted(Experiment):
    kind: ClassVar[str] = "planted"
    does: str

    def run(self, folder, device="cpu", progress=lambda *step: None):
        if self.does == "dies":
            os.kill(os.getpid(), 9)
        if self.does == "raises":
            raise ZeroDivisionError("planted")
        if self.does == "lacks":
            raise MissingDependency("planted: install it")
        if self.does == "resumes" and not (folder / "half").exists():
            folder.mkdir(parents=True)
            (folder / "half").write_text("")
            os._exit(3)
        rows, arrays = [{"step": 0, "value": float("nan")}], {"picture": np.eye(2)}
        return ExperimentResult(rows, {"value": 2.0}, arrays)


KINDS = ("dies", "raises", "lacks", "resumes", "works")
EXPERIMENTS = {f"planted-{does}": Planted(does) for does in KINDS} | {
    "planted-learning": LearningExperiment(
        dataset=(
    "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2,"
    " perturbation=0.1)"
),
        depth=5,
        epochs=3,
    ),
}
"""
STATUSES = {
    "planted-dies": ("error", "killed (out of memory?)"),
    "planted-raises": ("error", "ZeroDivisionError: planted"),
    "planted-lacks": ("skipped", "planted: install it"),
    "planted-resumes": ("error", "exit code 3"),
    "planted-works": ("ok", ""),
    "planted-learning": ("ok", ""),
}


@pytest.fixture
def planted(tmp_path, monkeypatch, installed):
    points = "[pudle.experiments]\nplanted = planted_plugin:EXPERIMENTS"
    installed(write_package(tmp_path / "plugin", "planted_plugin", PLUGIN, points))
    monkeypatch.chdir(tmp_path)


def selection(*names, cases=()):
    estimators = ("alternating",) if cases else ()
    return selected(*estimators, cases=cases, experiments=names)


def run(*names, cases=()):
    execute(selection(*names, cases=cases), home=Path("home"), workers=1, scores_only=True)


def at(commit):
    return load(Path("home"), "quick", commit)


def committed(text):
    """Commit a file, and return the hash."""
    Path("file").write_text(text)
    git(".", "add", "file")
    git(".", "commit", "-q", "-m", "m")
    return git(".", "rev-parse", "HEAD")


@pytest.mark.slow
def test_every_failure_is_a_status_with_a_reason_and_what_works_is_kept(store, planted):
    with Pool(2) as pool:
        run = filled(selection(*STATUSES), store, pool)
    records = {each.name: each.read(store) for each in run.experiments}
    paths = {each.name: run.place(each).path for each in run.experiments}
    for name, (status, reason) in STATUSES.items():
        record = records[name]
        assert (record.status, record.study) == (status, "planted"), record.reason
        assert reason in record.reason
    works, learned = records["planted-works"], records["planted-learning"]
    assert works.rows == [{"step": 0, "value": None}] and works.summary == {"value": 2.0}
    assert [row["step"] for row in learned.rows] == [0, 1, 2, 3]
    assert (learned.kind, learned.arrays) == ("learning", ["dictionary"])
    # What a finished experiment kept for going on is not needed any more.
    assert not paths["planted-learning"].with_suffix("").exists()
    # What broke is tried again, and goes on from what it kept.
    before = paths["planted-works"].stat().st_mtime_ns
    run = Run(selection("planted-resumes", "planted-works"), store)
    with Pool(1) as pool:
        assert run.fill(pool) == run.experiments[:1]
    assert [run.records[each].status for each in run.experiments] == ["ok", "ok"]
    assert paths["planted-works"].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "workers, experiments, expected",
    [(1, 1, 8), (1, 3, 8), (3, 3, 2), (3, 1, 8), (20, 20, 1), (None, 1, 1)],
)
def test_experiments_share_the_cores_that_workers_leave(
    store, monkeypatch, workers, experiments, expected
):
    """Each takes as many as stay free beside all that work at once, unless it counts seconds of
    the processor, which add up.
    """
    monkeypatch.setattr("pudle.measuring.stages.number_of_cores", lambda: 8)
    monkeypatch.setattr("pudle.threads.number_of_cores", lambda: 8)
    monkeypatch.setattr(CarriedExperiment, "measure", lambda self, store: number_of_threads())
    chosen = tuple(sorted(names.entries("experiments")["optimizers"]))[:experiments]
    (*_, stage) = Run(selection(*chosen), store).missing(costs=False, workers=workers)
    assert [task.call(store) for task in stage.tasks] == [expected] * experiments
    limited = CarriedExperiment("mine", "mine", LearningExperiment("", budget=1.0))
    assert measure_in_threads(limited, 4, store) == 1


def test_what_holds_at_a_commit_is_known_later(planted):
    """The second commit changed nothing that the experiment depends on, so that it is not carried
    out again.
    """
    git(".", "init", "-q")
    old = committed("old")
    run("planted-works")
    run("planted-lacks")
    new = committed("new")
    run("planted-works")
    sides = [at(commit).experiments for commit in (old, new)]
    both = [[item.name for item in side] for side in sides]
    assert both == [["planted-lacks", "planted-works"], ["planted-works"]]
    # The record names the commit that carried it out.
    assert [side[-1].provenance.commit for side in sides] == [old, old]


def test_experiments_leave_what_is_known_of_cases_as_it_is(planted):
    """Neither the clean commit's nor the dirty one's record of cases is hidden."""
    git(".", "init", "-q")
    commit = committed("clean")
    run("planted-works")
    assert not at(commit).cases
    Path("file").write_text("dirty")
    run(cases=(TINY,))
    Path("file").write_text("clean")
    run("planted-lacks")
    results = at(commit)
    assert list(results.cases) == [TINY.name]
    assert [item.name for item in results.experiments] == ["planted-lacks", "planted-works"]


def test_run_carries_out_the_experiments_it_is_told(planted):
    def told(*patterns):
        options = [f"--experiment={pattern}" for pattern in patterns]
        return call("run", "--home", "home", "--scores-only", "--workers", "1", *options)

    done = told("planted-w*", "planted-lacks")
    assert done.returncode == 0
    assert "2 of 2 experiments carried out now, 1 ok, 1 skipped" in done.stdout
    assert "planted-lacks: skipped: planted: install it" in done.stdout
    done = told("planted-raises")
    assert done.returncode == 2 and "planted-raises: error: ZeroDivisionError" in done.stderr
