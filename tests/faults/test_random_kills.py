"""Runs and reports killed at random moments: nothing finished is lost, nothing outlives them, no
number differs.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from support.estimators.plugin import write_package
from support.processes.live import gone
from support.processes.repositories import repository

EXPERIMENTS = """
from pudle import LearningExperiment

DATASET = (
    "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2,"
    " perturbation=0.1)"
)
EXPERIMENTS = {"killed-training": LearningExperiment(dataset=DATASET, depth=20, epochs=400)}
"""
PUDLE = (sys.executable, "-m", "pudle")
CASE = "sparse_gaussian_n_samples_200-ista-lasso"
ARGUMENTS = (
    "run --only --estimator alternating --estimator backprop --dataset"
    f" sparse_gaussian(n_samples=200) --case {CASE} --depth 5 --depth 400"
    " --experiment killed-training"
)
RUN = (*PUDLE, *ARGUMENTS.split())
REPORT = (*PUDLE, "report")
#: The files that a run makes, and how many, by phase in the order in which a run of one worker
#: comes to them. Two workers make some side by side: the phase is the first whose files are not all
#: there. The last phase lasts until the run ends.
FILES = {
    "references": ("store/references/*.npz", 3),
    "scores": (f"store/{CASE}/*.json", 2),
    "memory": (f"store/{CASE}/costs/memory_bytes-*", 4),
    "time": (f"store/{CASE}/costs/seconds-*", 4),
    "experiments": ("store/experiments/*.json", 1),
    "history of asv": ("results/*/*-*.json", 1),
}
PHASES = ("start", *FILES, "report")
#: Runs, and how often each is killed before it comes to its end.
RUNS, KILLS = 5, 10
#: Seconds between two looks at the phase.
TICK = 0.02


def names(home, pattern):
    return {
        str(path.relative_to(home)) for path in home.glob(pattern) if not path.name.startswith(".")
    }


def lacking(home):
    """Return the phases whose files are not all there."""
    return [
        phase for phase, (pattern, number) in FILES.items() if len(names(home, pattern)) < number
    ]


def stored(home):
    """Return the content of every file of results in the store; checkpoints and what is being
    written are no results.
    """
    listed = {name for pattern, _ in FILES.values() for name in names(home, pattern)}
    return {name: (home / name).read_bytes() for name in listed if name.startswith("store/")}


def accuracy(home):
    """Return all that a run computed, by file, without what depends on the moment: dates, times and
    memory.
    """
    contents = {}
    for name, content in stored(home).items():
        record = {} if name.endswith(".npz") else json.loads(content)
        for part in (*record.get("rows", ()), record.get("summary", {})):
            part.pop("seconds", None)
        kept = ("status", "scores", "references", "rows", "summary")
        contents[name] = {key: record.get(key) for key in kept} if record else content
    return contents


@pytest.fixture
def environment(tmp_path):
    point = "[pudle.experiments]\nkilled = killed_experiments:EXPERIMENTS"
    site = write_package(tmp_path / "site", "killed_experiments", EXPERIMENTS, point)
    return os.environ | {"PYTHONPATH": str(site)}


def attempt(folder, environment, workers):
    """Run and report, and yield the process that is at work with the phase that it is in, until
    both have ended well.
    """
    home = folder / ".asv" / "quick"
    for command in ((*RUN, "--workers", str(workers)), REPORT):
        begun = time.time_ns()
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=said, stderr=said
            )
        while process.poll() is None:
            # A run writes its list once it knows what is stored, before it measures anything.
            listed = (home / "run.json").exists() and (home / "run.json").stat().st_mtime_ns > begun
            here = next(iter(lacking(home)), [*FILES][-1]) if listed else "start"
            yield process, "report" if command is REPORT else here
            time.sleep(TICK)
        assert process.returncode == 0, (folder / "said").read_text()


def kill(folder, environment, draw):
    """Run and report, and kill what is at work soon after a phase that is not finished has begun,
    or later.
    """
    target = draw.choice(["start", *lacking(folder / ".asv" / "quick"), "report"])
    moment = math.inf
    for process, here in attempt(folder, environment, draw.choice([1, 2])):
        if math.isinf(moment) and PHASES.index(here) >= PHASES.index(target):
            moment = time.monotonic() + draw.uniform(0, draw.choice([0.1, 3]))
        if time.monotonic() >= moment:
            process.send_signal(draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            # It may have ended by itself just now.
            if process.wait() != 0:
                return


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_runs_killed_at_random_moments_end_with_the_numbers_of_one_run(tmp_path, environment):
    draw, whole = random.Random(0), repository(tmp_path / "whole")
    list(attempt(whole, environment, 1))
    assert lacking(whole / ".asv" / "quick") == []
    truth = accuracy(whole / ".asv" / "quick")
    for number in range(RUNS):
        folder = repository(tmp_path / f"killed-{number}")
        home, finished = folder / ".asv" / "quick", {}
        for _ in range(KILLS):
            mark = f"mark-{uuid.uuid4().hex}"
            kill(folder, environment | {"PUDLE_TEST_MARK": mark}, draw)
            assert gone(mark)
            now = stored(home)
            # No finished result is lost or changed.
            assert {name: now.get(name) for name in finished} == finished
            finished = now
        list(attempt(folder, environment, 2))
        assert accuracy(home) == truth
        assert not list(folder.rglob(".*.tmp"))
