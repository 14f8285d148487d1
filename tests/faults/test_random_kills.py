"""Runs killed at random moments: nothing finished is lost, nothing outlives them, and the accuracy is that of one run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from live import gone
from repositories import git

#: How often a run is killed; with a longest delay, which covers all phases of a run on a slow machine.
KILLS, LONGEST = 50, 40.0
RUN = [
    sys.executable,
    "-m",
    "pudle",
    "run",
    "--workers",
    "2",
    "--only",
    "--estimator",
    "alternating",
    "--estimator",
    "backprop",
]
RUN += ["--dataset", "sparse_gaussian(n_samples=20)", "--case", "sparse_gaussian_n_samples_20-ista-*"]


def accuracy(repository: Path) -> dict[str, object]:
    """Return all scores in the store by file, without what depends on the moment of a run."""
    paths = sorted(repository.glob(".asv/quick/store/*-ista-*/*.json"))
    records = {str(path.relative_to(repository)): json.loads(path.read_text()) for path in paths}
    return {name: [record["status"], record["scores"], record["references"]] for name, record in records.items()}


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_runs_killed_at_random_moments_end_with_the_numbers_of_one_run(tmp_path):
    draw = random.Random(0)
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "-q")
        git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", "first")
    whole = subprocess.run(RUN, cwd=tmp_path / "whole", capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    finished: dict[str, object] = {}
    for _ in range(KILLS):
        mark = f"mark-{uuid.uuid4().hex}"
        environment = os.environ | {"PUDLE_TEST_MARK": mark}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(RUN, cwd=tmp_path / "killed", env=environment, **pipes)
        time.sleep(draw.uniform(0, LONGEST))
        process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
        process.wait()
        assert gone(mark)
        now = accuracy(tmp_path / "killed")
        assert {name: now[name] for name in finished} == finished
        finished = now
    done = subprocess.run(RUN, cwd=tmp_path / "killed", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert accuracy(tmp_path / "killed") == accuracy(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob(".*.tmp"))
