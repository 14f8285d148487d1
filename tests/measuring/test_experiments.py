"""Experiments: carried out once, in processes that can be killed; whatever breaks costs no one
else.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pudle import cli, names
from pudle.errors import MissingResults
from pudle.files import read_json
from pudle.measuring.case import Case
from pudle.measuring.experiment import silent
from pudle.measuring.run import execute
from pudle.measuring.runner import fill, plan_experiments
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.reports.compare import sides as compare_sides

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
        return ExperimentResult([{"step": 0, "value": float("nan")}], {"value": 2.0}, {"picture": np.eye(2)})


EXPERIMENTS = {f"planted-{does}": Planted(does) for does in ("dies", "raises", "lacks", "resumes", "works")} | {
    "planted-learning": LearningExperiment(
        dataset="sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2, perturbation=0.1)",
        depth=5,
        epochs=3,
    ),
}
"""
STATUSES = {
    "planted-dies": ("out-of-memory", "signal 9"),
    "planted-raises": ("error", "ZeroDivisionError: planted"),
    "planted-lacks": ("skipped", "planted: install it"),
    "planted-resumes": ("error", "exit code 3"),
    "planted-works": ("ok", ""),
    "planted-learning": ("ok", ""),
}


@pytest.fixture
def planted(tmp_path, monkeypatch):
    site = tmp_path / "plugin"
    info = site / "planted_experiments-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "planted_experiments.py").write_text(PLUGIN)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: planted-experiments\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[pudle.experiments]\nplanted = planted_experiments:EXPERIMENTS\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    names.entries.cache_clear()
    yield
    names.entries.cache_clear()


def selection(*names: str) -> Selection:
    return Selection("quick", (), (), (1,), (1,), experiments=names)


@pytest.mark.slow
def test_every_failure_is_a_status_with_a_reason_and_what_works_is_kept(tmp_path, planted):
    store = Store(tmp_path / "store", "quick")
    fill(plan_experiments(selection(*STATUSES), store), workers=2)
    for name, (status, reason) in STATUSES.items():
        record = store.read_experiment(name)
        assert (record.status, record.study) == (status, "planted"), record.reason
        assert reason in record.reason
    works = store.read_experiment("planted-works")
    assert works["rows"] == [{"step": 0, "value": None}] and works["summary"] == {"value": 2.0}
    with np.load(store.experiment_path("planted-works").with_suffix(".npz")) as arrays:
        assert np.array_equal(arrays["picture"], np.eye(2))
    learned = store.read_experiment("planted-learning")
    assert learned["kind"] == "learning" and [row["step"] for row in learned["rows"]] == [
        0,
        1,
        2,
        3,
    ]
    assert learned["summary"]["steps"] == 3 and learned["arrays"] == ["dictionary"]
    # What a finished experiment kept for going on is not needed any more.
    assert not store.experiment_path("planted-learning").with_suffix("").exists()


@pytest.mark.slow
def test_what_broke_is_tried_again_and_goes_on_from_what_it_kept(tmp_path, planted):
    store = Store(tmp_path / "store", "quick")
    fill(plan_experiments(selection("planted-resumes", "planted-works"), store), workers=1)
    before = store.experiment_path("planted-works").stat().st_mtime_ns
    fill(plan_experiments(selection("planted-resumes", "planted-works"), store), workers=1)
    assert store.read_experiment("planted-resumes")["status"] == "ok"
    assert store.experiment_path("planted-works").stat().st_mtime_ns == before


def test_what_holds_at_a_commit_is_known_later(tmp_path, planted, monkeypatch):
    """The second commit changed nothing that the experiment depends on, so that it is not carried
    out again.
    """
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@e"]
    subprocess.run([*git, "init", "-q"], check=True)

    def run(*names):
        execute(
            selection(*names),
            home=tmp_path / "home",
            workers=1,
            scores_only=True,
            again=False,
            progress=silent,
        )

    def commit():
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
        return subprocess.run(
            [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip()

    old = commit()
    run("planted-works")
    run("planted-lacks")
    new = commit()
    run("planted-works")
    sides = {
        name: compare_sides.load_commit(name, name, tmp_path / "home", "quick").experiments
        for name in (old, new)
    }
    assert {name: [item.name for item in side] for name, side in sides.items()} == {
        old: ["planted-lacks", "planted-works"],
        new: ["planted-works"],
    }
    # The record names the commit that carried it out.
    assert [side[-1].provenance["commit"] for side in sides.values()] == [old, old]
    assert sides[old][-1].path == sides[new][0].path and sides[new][0].path.exists()
    with np.load(sides[new][0].path.with_suffix(".npz")) as arrays:
        assert set(arrays) == set(sides[new][0].array_names) == {"picture"}
    # Without what runs wrote down, nobody can tell what held at a commit.
    shutil.rmtree(tmp_path / "home" / "quick" / "runs")
    for name in (old, new):
        with pytest.raises(MissingResults):
            compare_sides.load_commit(name, name, tmp_path / "home", "quick")


def test_experiments_leave_what_is_known_of_cases_as_it_is(tmp_path, planted, monkeypatch, capsys):
    """Neither the clean commit's nor the dirty one's record of cases is hidden, and the gate
    refuses to judge none.
    """
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@e"]
    (tmp_path / "file").write_text("clean")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    home = tmp_path / "home"
    small = Case(
        "tiny",
        "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)",
        "ista",
        "lasso",
        seeds=(0,),
        depths=(1, 2),
    )

    def run(cases, *names):
        chosen = dataclasses.replace(
            selection(*names), cases=cases, estimators=("alternating",) if cases else ()
        )
        execute(chosen, home=home, workers=1, scores_only=True, again=False, progress=silent)
        return compare_sides.load_commit(commit, commit, home, "quick")

    assert not run((), "planted-works").cases
    monkeypatch.setattr(sys, "argv", ["pudle", "compare", "HEAD", "HEAD", "--home", str(home)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2 and "holds experiments" in capsys.readouterr().err
    (tmp_path / "file").write_text("dirty")
    assert list(run((small,)).cases) == [small.name]
    (tmp_path / "file").write_text("clean")
    found = run((), "planted-lacks")
    assert list(found.cases) == [small.name]
    assert [item.name for item in found.experiments] == ["planted-lacks", "planted-works"]
    # Whoever deletes a damaged record need not mend lists.
    next((home / "quick" / "store" / "experiments").glob("planted-lacks*.json")).unlink()
    held = compare_sides.load_commit(commit, commit, home, "quick").experiments
    assert [item.name for item in held] == ["planted-works"]


def test_run_carries_out_the_experiments_it_is_told(tmp_path, planted, monkeypatch, capsys):
    home = tmp_path / "home"

    def run(*experiments):
        options = [text for name in experiments for text in ("--experiment", name)]
        monkeypatch.setattr(
            sys,
            "argv",
            ["pudle", "run", "--home", str(home), "--scores-only", "--workers", "1", *options],
        )
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    code, out, _ = run("planted-w*", "planted-lacks")
    assert code == 0
    assert (
        "2 of 2 experiments carried out now, 1 ok, 1 skipped" in out
        and "planted-lacks: skipped: planted: install it" in out
    )
    found = sorted(
        read_json(path)["name"] for path in (home / "quick/store/experiments").glob("*.json")
    )
    assert found == ["planted-lacks", "planted-works"]
    code, _, err = run("planted-raises")
    assert code == 2 and "planted-raises: error: ZeroDivisionError" in err
    code, _, err = run("nothing-*")
    assert code == 2 and "matches no experiment" in err
