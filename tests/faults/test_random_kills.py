"""Runs and reports killed at random moments: nothing finished is lost, nothing outlives them, no number differs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from live import gone
from plugin import write_package
from repositories import git

EXPERIMENTS = """
from pudle import LearningExperiment

DATASET = "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2, perturbation=0.1)"
EXPERIMENTS = {"killed-training": LearningExperiment(dataset=DATASET, depth=20, epochs=400)}
"""
PUDLE = (sys.executable, "-m", "pudle")
CASE = "sparse_gaussian_n_samples_20-ista-lasso"
RUN = (
    *PUDLE, "run", "--workers", "2", "--only", "--estimator", "alternating", "--estimator", "backprop",
    "--dataset", "sparse_gaussian(n_samples=20)", "--case", CASE, "--depth", "5", "--depth", "50",
    "--experiment", "killed-training",
)  # fmt: skip
REPORT = (*PUDLE, "report")
#: Files in the order in which a run needs them, by what is measured. References, scores and surfaces are made side by side.
PHASES = {
    "references": "store/references/*.npz", "scores": f"store/{CASE}/*.json", "surfaces": "store/artifacts/*.json",
    "memory": f"store/{CASE}/costs/memory_bytes-*", "time": f"store/{CASE}/costs/seconds-*",
    "experiments": "store/experiments/*.json", "history of asv": "results/*/*-*.json",
}  # fmt: skip


def names(home: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(home)) for path in home.glob(pattern) if not path.name.startswith(".")}


def stored(home: Path) -> dict[str, bytes]:
    """Return the content of every file of results in the store; checkpoints and what is being written are no results."""
    paths = (home / name for pattern in PHASES.values() for name in names(home, pattern) if name.startswith("store/"))
    return {str(path.relative_to(home)): path.read_bytes() for path in paths}


def accuracy(home: Path) -> dict[str, object]:
    """Return all that a run computed, by file, without what depends on the moment: dates, times and memory."""
    found: dict[str, object] = {}
    for name, content in stored(home).items():
        if "/costs/" in name:
            found[name] = json.loads(content)["status"]
        elif name.endswith(".npz"):
            found[name] = content
        else:
            record = json.loads(content)
            found[name] = {key: record.get(key) for key in ("status", "scores", "references", "rows", "summary")}
    return found


@pytest.fixture
def environment(tmp_path):
    point = "[pudle.experiments]\nkilled = killed_experiments:EXPERIMENTS"
    site = write_package(tmp_path / "site", "killed_experiments", EXPERIMENTS, point)
    return os.environ | {"PYTHONPATH": str(site)}


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


def attempt(folder: Path, environment: dict[str, str], seconds: float, number: int) -> str | None:
    """Run and report, and kill what is at work after some seconds; return the command that was killed, if one was."""
    end = time.monotonic() + seconds
    for command in (RUN, REPORT):
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
            with suppress(subprocess.TimeoutExpired):
                assert process.wait(max(end - time.monotonic(), 0)) == 0, (folder / "said").read_text()
                continue
            process.send_signal(number)
            process.wait()
            return command[3]
    return None


def phase(command: str, home: Path, whole: Path) -> str:
    """Return what a killed command was at: the first kind of file that lacks some, or its start where it said nothing."""
    if command == "report" or not (home.parents[1] / "said").read_text():
        return command if command == "report" else "start"
    return next((kind for kind, pattern in PHASES.items() if len(names(home, pattern)) < len(names(whole, pattern))), "end")


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [50])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_runs_killed_at_random_moments_end_with_the_numbers_of_one_run(kills, tmp_path, environment):
    draw, phases, completed = random.Random(0), Counter[str](), 0
    whole = repository(tmp_path / "whole")
    begin = time.monotonic()
    assert attempt(whole, environment, 3600, signal.SIGKILL) is None
    # A killed run needs two to three attempts, whatever else the machine does.
    longest = (time.monotonic() - begin) / 2
    truth = accuracy(whole / ".asv" / "quick")
    assert all(names(whole / ".asv" / "quick", pattern) for pattern in PHASES.values())
    while phases.total() < kills or completed < 1:
        folder = repository(tmp_path / f"killed-{completed}")
        home, finished = folder / ".asv" / "quick", {}
        command: str | None = ""
        while command is not None:
            # Once there were enough kills, the last run comes to its end.
            seconds = draw.uniform(0, longest) if phases.total() < kills else 3600.0
            mark = f"mark-{uuid.uuid4().hex}"
            number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            command = attempt(folder, environment | {"PUDLE_TEST_MARK": mark}, seconds, number)
            assert gone(mark)
            now = stored(home)
            assert {name: now.get(name) for name in finished} == finished, "a finished result was lost or changed"
            finished = now
            if command is not None:
                phases[phase(command, home, whole / ".asv" / "quick")] += 1
        completed += 1
        assert accuracy(home) == truth
        assert not list(folder.rglob(".*.tmp"))
    print(f"{phases.total()} kills in {completed} runs: {dict(phases)}")
