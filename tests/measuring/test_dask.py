"""Tasks on Dask workers: the store is that of this machine's processes, whatever is killed, late or
of another version.
"""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image
from support.estimators.plugin import write_plugin
from support.problems.small_problems import filled, selected
from support.processes.clusters import Cluster, other_version
from support.processes.live import wait_for

from pudle import kernel_choice
from pudle.errors import InvalidArgument, PudleError
from pudle.measuring.case import Case
from pudle.measuring.run import Run
from pudle.measuring.store import Store
from pudle.workers import Pool

pytest.importorskip("distributed", reason="install pudle[scale]")

#: Fields of a record that depend on the moment and the process.
MOMENT = ("provenance", "seconds", "digest")


#: An estimator and an algorithm in a file, which imports one beside it.
OWN = """
from dataclasses import dataclass
import pudle
from factors import TWO

@dataclass(frozen=True)
class Twice(pudle.GradientEstimator):
    name, computes = "twice", "heuristic"

    def estimate(self, problem, algorithm, depth):
        return pudle.Estimate(TWO * problem.theta, algorithm.run(problem, depth).codes)

@dataclass(frozen=True)
class Slow(pudle.Ista):
    name = "slow"
"""


def contents(folder):
    """Return all that a store holds by file, without what depends on the moment."""
    kept = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            content = {key: value for key, value in record.items() if key not in MOMENT}
        else:
            with np.load(path) as arrays:
                content = {key: arrays[key].tobytes() for key in arrays}
        kept[path.relative_to(folder).as_posix()] = content
    return kept


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as cluster:
        yield cluster


def records(run):
    return {each.estimator: run.records[each] for each in run.scores}


def connected(scheduler, say=lambda line: None):
    from pudle.measuring.cluster import dask_cluster

    return dask_cluster(scheduler, "cpu", say)


@pytest.mark.slow
def test_two_workers_fill_the_store_bit_for_bit_as_this_machine_does(tmp_path, monkeypatch):
    """Images, a table and classes in files travel to a folder of the worker's that stands for the
    working folder.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(kernel_choice.VARIABLE, "torch")
    for folder in ("images", "lib"):
        (tmp_path / folder).mkdir()
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "noise.png")
    (tmp_path / "lib" / "own.py").write_text(OWN)
    (tmp_path / "lib" / "factors.py").write_text("TWO = 2\n")
    np.savetxt(tmp_path / "data.csv", draw.standard_normal((40, 4)), delimiter=",")
    patches = "image_patches(folder='images', n_samples=20, n_components=10, size=4)"
    cases = (
        Case("patches", patches, "ista", "lasso", (0,), (2,)),
        Case("table", "array(path='data.csv')", "lib/own.py:Slow", "lasso", (0,), (2,)),
    )
    selection = selected("lib/own.py:Twice", cases=cases, costs=())
    here, there = (Store(tmp_path / name, "quick") for name in ("here", "there"))
    with Pool(1) as pool, connected("local:2") as executor:
        filled(selection, here, pool)
        run = filled(selection, there, executor)
    assert contents(here.folder) == contents(there.folder)
    assert [record.status for record in run.records.values()] == ["ok", "ok"]
    assert not any(stage.tasks for stage in Run(selection, there).missing())


@pytest.mark.nightly
def test_an_estimator_that_hangs_exits_or_is_killed_costs_itself_alone(tmp_path, store, installed):
    broken = ["sleeps", "dies", "leaves"]
    installed(write_plugin(tmp_path / "plugin", broken))
    selection = selected(*broken, "one_step", timeout=3.0)
    with connected("local:2") as executor:
        by_name = records(filled(selection, store, executor, costs=False))
    statuses = {name: record.status for name, record in by_name.items()}
    failed = {"sleeps": "timeout", "dies": "error", "leaves": "error"}
    assert statuses == failed | {"one_step": "ok"}
    assert "(Dask worker tcp://" in by_name["leaves"].reason
    by_place = {(row.seed, row.depth): row.status for row in by_name["leaves"].scores}
    assert by_place == {(0, 1): "ok", (0, 5): "error", (1, 1): "error", (1, 5): "error"}


@pytest.mark.nightly
def test_a_worker_with_another_version_is_refused_and_mixes_no_numbers(tmp_path, store, cluster):
    cluster.start_worker(PYTHONPATH=other_version(tmp_path / "other"))
    with connected(cluster.address) as executor, pytest.raises(PudleError) as refused:
        filled(selected("alternating", "backprop"), store, executor, costs=False)
    assert "backprop on tiny" in str(refused.value)
    assert "install the same pudle, plug-ins and libraries there" in str(refused.value)
    # What does not depend on the changed file is kept.
    assert not list(store.folder.glob("tiny/backprop-*"))
    assert len(list(store.folder.glob("references/*"))) == 2


def disturbed(tmp_path, cluster, disturb, patience=60):
    """Fill a store and disturb the cluster after the second score; return it and one that this
    machine filled.

    `patience` is the seconds in which a lost scheduler must be back.
    """
    selection = selected("alternating", "backprop", "analytic", "one_step")
    here, there = (Store(tmp_path / name, "quick") for name in ("here", "there"))
    scores = []

    def progress(done, total, label):
        if " on tiny" in label:
            scores.append(label)
            if len(scores) == 2:
                disturb()

    with connected(cluster.address) as executor:
        executor.client._timeout = patience
        filled(selection, there, executor, costs=False, progress=progress)
    with Pool(1) as pool:
        filled(selection, here, pool, costs=False)
    return here, there


@pytest.mark.nightly
def test_a_worker_that_is_killed_costs_nothing(tmp_path, cluster):
    workers = [cluster.start_worker(), cluster.start_worker()]
    here, there = disturbed(tmp_path, cluster, lambda: workers[0].send_signal(signal.SIGKILL))
    assert contents(here.folder) == contents(there.folder)


@pytest.mark.nightly
def test_a_scheduler_that_is_killed_and_started_again_costs_nothing(tmp_path, cluster):
    cluster.start_worker()

    def restart():
        cluster.scheduler.kill()
        cluster.scheduler.wait()
        cluster.start_scheduler()
        cluster.start_worker()

    here, there = disturbed(tmp_path, cluster, restart)
    assert contents(here.folder) == contents(there.folder)


@pytest.mark.nightly
def test_a_scheduler_that_stays_away_ends_the_run_with_one_line_and_loses_nothing(
    tmp_path, cluster
):
    cluster.start_worker()
    with pytest.raises(PudleError, match="start it again and run again to continue"):
        disturbed(tmp_path, cluster, cluster.scheduler.kill, patience=5)
    kept = contents(tmp_path / "there")
    assert sum(name.startswith("tiny/") for name in kept) >= 2


SLURM = """
jobs: 2
jobqueue:
  slurm:
    cores: 1
    memory: 2GB
    processes: 1
    queue: short
    walltime: "01:02:03"
    job-script-prologue: [export MARK=slurm]
"""
#: What Slurm's commands do as far as dask-jobqueue needs it: run a copy of the script, print its
#: number, and end it.
SBATCH = """#!/bin/sh
cp "$1" "$JOBS/$$.sh"
[ -n "$HELD" ] || { setsid sh "$JOBS/$$.sh" > "$JOBS/$$.log" 2>&1 & echo $! > "$JOBS/$$.pid"; }
echo "Submitted batch job $$"
"""
SCANCEL = """#!/bin/sh
kill -- -"$(cat "$JOBS/$1.pid")"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A configuration for two jobs, and a folder for Slurm's commands that holds the scripts and
    the output of jobs.
    """
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(tmp_path))
    (tmp_path / "slurm.yaml").write_text(SLURM)
    return tmp_path / "slurm.yaml"


def test_the_job_script_is_the_one_that_is_configured_and_is_shown(slurm, monkeypatch):
    monkeypatch.setenv("HELD", "yes")
    said = []
    with connected(f"slurm:{slurm}", said.append):
        wait_for(lambda: len(list(slurm.parent.glob("*.sh"))) == 2)
    (script, addresses) = said
    assert script.startswith("job script, 2 times:\n#!/usr/bin/env bash\n")
    assert {"#SBATCH -p short", "#SBATCH --mem=2G"} <= set(script.splitlines())
    assert "export MARK=slurm" in script and "-m distributed.cli.dask_worker tcp://" in script
    assert addresses.startswith("Dask scheduler tcp://") and ", dashboard http://" in addresses
    for path in slurm.parent.glob("*.sh"):
        # Only the names of the workers differ.
        assert path.read_text().splitlines()[:9] == script.splitlines()[1:10]


@pytest.mark.nightly
def test_jobs_that_slurm_starts_fill_the_store(slurm, store):
    with connected(f"slurm:{slurm}") as executor:
        run = filled(selected("backprop"), store, executor, costs=False)
    assert records(run)["backprop"].status == "ok"


@pytest.mark.parametrize(
    "scheduler, reason",
    [
        ("nonsense", "names no cluster: give tcp://HOST:PORT"),
        ("tcp://127.0.0.1:1", "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("tcp://127.0.0.1:1?memory=much", "give the memory of a task as ?memory=4GiB"),
        (
            "slurm:absent.yaml",
            "No such file or directory: 'absent.yaml'): give a YAML file",
        ),
    ],
)
def test_what_is_no_scheduler_is_refused_in_one_line(scheduler, reason, monkeypatch):
    from pudle.measuring import cluster

    monkeypatch.setattr(cluster, "ANSWER", 0.5)
    with pytest.raises(InvalidArgument) as refused, connected(scheduler):
        pass
    assert reason in str(refused.value) and "\n" not in str(refused.value)
