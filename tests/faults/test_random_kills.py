"""Runs and reports killed at random moments: nothing finished is lost, nothing outlives them, no
number differs.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import gone
from plugin import write_package
from repositories import git

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
RUN = (
    *PUDLE,
    "run",
    "--only",
    "--estimator",
    "alternating",
    "--estimator",
    "backprop",
    "--dataset",
    "sparse_gaussian(n_samples=200)",
    "--case",
    CASE,
    "--depth",
    "5",
    "--depth",
    "400",
    "--experiment",
    "killed-training",
)
REPORT = (*PUDLE, "report")
#: The files that a run makes, and how many, by phase in the order in which a run of one worker
#: comes to them. Two workers make some side by side: the phase is the first whose files are not all
#: there. The last phase lasts until the run ends.
FILES = {
    "references": ("store/references/*.npz", 3),
    "scores": (f"store/{CASE}/*.json", 2),
    "surfaces": ("store/artifacts/*.json", 2),
    "memory": (f"store/{CASE}/costs/memory_bytes-*", 4),
    "time": (f"store/{CASE}/costs/seconds-*", 4),
    "experiments": ("store/experiments/*.json", 1),
    "history of asv": ("results/*/*-*.json", 1),
}
PHASES = ("start", *FILES, "report")
#: Kills that each phase has at least, and the most runs that these may take.
LEAST, MOST_RUNS = 3, 20
#: Seconds between two looks at the phase.
TICK = 0.02


def names(home: Path, pattern: str) -> set[str]:
    return {
        str(path.relative_to(home)) for path in home.glob(pattern) if not path.name.startswith(".")
    }


def lacking(home: Path) -> list[str]:
    """Return the phases whose files are not all there."""
    return [
        phase for phase, (pattern, number) in FILES.items() if len(names(home, pattern)) < number
    ]


def stored(home: Path) -> dict[str, bytes]:
    """Return the content of every file of results in the store; checkpoints and what is being
    written are no results.
    """
    paths = (
        home / name
        for pattern, _ in FILES.values()
        for name in names(home, pattern)
        if name.startswith("store/")
    )
    return {str(path.relative_to(home)): path.read_bytes() for path in paths}


def accuracy(home: Path) -> dict[str, object]:
    """Return all that a run computed, by file, without what depends on the moment: dates, times and
    memory.
    """
    found: dict[str, object] = {}
    for name, content in stored(home).items():
        if "/costs/" in name:
            found[name] = json.loads(content)["status"]
        elif name.endswith(".npz"):
            found[name] = content
        else:
            record = json.loads(content)
            for part in (*record.get("rows", ()), record.get("summary", {})):
                part.pop("seconds", None)
            found[name] = {
                key: record.get(key)
                for key in ("status", "scores", "references", "rows", "summary")
            }
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


def attempt(
    folder: Path, environment: dict[str, str], workers: int
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
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
            here = (
                "report"
                if command is REPORT
                else next(iter(lacking(home)), [*FILES][-1])
                if listed
                else "start"
            )
            yield process, here
            time.sleep(TICK)
        assert process.returncode == 0, (folder / "said").read_text()


def lengths_of(folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run and report undisturbed, with one worker, and return the seconds of each phase."""
    lengths, before = dict.fromkeys(PHASES, 0.0), time.monotonic()
    for _, here in attempt(repository(folder), environment, 1):
        before, passed = time.monotonic(), time.monotonic() - before
        lengths[here] += passed
    return lengths


def kill(
    folder: Path,
    environment: dict[str, str],
    targets: list[str],
    lengths: dict[str, float],
    draw: random.Random,
) -> tuple[str, str] | None:
    """Run and report, and kill what is at work in the first of the phases aimed at; return the
    phase hit and the signal.

    The moment within the phase is random, up to the `lengths` of an undisturbed run: where little
    of a phase is left, it falls into a later one, and None says that it came too late for all.
    """
    moment = math.inf
    for process, here in attempt(folder, environment, draw.choice([1, 2])):
        # What earlier attempts have finished does not come again.
        while math.isinf(moment) and targets and PHASES.index(targets[0]) <= PHASES.index(here):
            if targets.pop(0) == here:
                moment = time.monotonic() + draw.uniform(0, lengths[here])
        if time.monotonic() >= moment:
            number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            process.send_signal(number)
            # It may have ended by itself just now.
            if process.wait() != 0:
                return here, number.name
    return None


def at(hits: Counter[tuple[str, str]], phase: str) -> int:
    """Return how many kills fell in a phase."""
    return sum(number for (place, _), number in hits.items() if place == phase)


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [50])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_runs_killed_at_random_moments_end_with_the_numbers_of_one_run(
    kills, tmp_path, environment
):
    draw, hits, completed = random.Random(0), Counter[tuple[str, str]](), 0
    whole = tmp_path / "whole"
    # Kernels may be compiled in the first run; the second takes as long as those that follow.
    lengths_of(whole, environment)
    lengths = lengths_of(tmp_path / "again", environment)
    made = {
        phase: len(names(whole / ".asv" / "quick", pattern))
        for phase, (pattern, _) in FILES.items()
    }
    assert made == {phase: number for phase, (_, number) in FILES.items()}
    truth = accuracy(whole / ".asv" / "quick")
    while hits.total() < kills or min(at(hits, phase) for phase in PHASES) < LEAST:
        assert completed < MOST_RUNS, hits
        folder = repository(tmp_path / f"killed-{completed}")
        home, finished = folder / ".asv" / "quick", {}
        # Every attempt passes the start, so that kills there may come between any others.
        chosen = draw.choices(PHASES, k=10)
        targets = sorted(
            chosen, key=lambda phase: PHASES.index(phase) or draw.uniform(0, len(PHASES))
        )
        hit: tuple[str, str] | None = ("", "")
        while hit is not None:
            mark = f"mark-{uuid.uuid4().hex}"
            hit = kill(folder, environment | {"PUDLE_TEST_MARK": mark}, targets, lengths, draw)
            assert gone(mark)
            now = stored(home)
            assert {name: now.get(name) for name in finished} == finished, (
                "a finished result was lost or changed"
            )
            finished = now
            hits.update([hit] if hit else [])
        completed += 1
        assert accuracy(home) == truth
        assert not list(folder.rglob(".*.tmp"))
    print(f"{hits.total()} kills in {completed} runs: {dict(hits)}")
    for phase in PHASES:
        print(f"{phase}, {lengths[phase]:.1f} s undisturbed: {at(hits, phase)} kills")
