"""Trainings that several processes share: torchrun's processes, one of them killed, and another
number of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from learning_helpers import planted
from torch import Tensor

import pudle
from pudle.learning.processes import Processes

#: The bound of the issue; what is seen is rounding, about 1e-15.
SAME = 1e-6
OPTIONS = {
    "dataset": (
        "sparse_gaussian(n_samples=70, n_features=12, n_components=18, n_nonzero_coefs=2,"
        " perturbation=0.1)"
    ),
    "loss": "reconstruction",
    "algorithm": "ista(step=0.2)",
    "depth": 10,
    "batch": 20,
    "record-every": 1,
    "optimizer": "adam(learning_rate=0.01)",
}


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(folder: Path, *flags: str, **changes: object) -> list[str]:
    """Return the command that learns with two processes."""
    arguments = [
        f"--{name}={value}" for name, value in {**OPTIONS, **changes, "out": folder}.items()
    ]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [*launch, "-m", "pudle", "learn", *flags, *arguments]


def run(folder: Path, *flags: str, **changes: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *flags, **changes),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=ENVIRONMENT,
    )


def alone(folder: Path, epochs: int, *, resume: bool = False, **changes: object) -> None:
    """Learn with this process alone."""
    options: Any = {name.replace("-", "_"): value for name, value in {**OPTIONS, **changes}.items()}
    experiment = pudle.LearningExperiment(**options, epochs=epochs)
    experiment.learner().fit(
        experiment.problem(), folder=folder, resume=resume, source=experiment.source()
    )


def dictionary(folder: Path) -> np.ndarray:
    return np.load(folder / "dictionary.npy")


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_another_number_resumes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    alone(one, 4)
    done = run(two, epochs=2)
    assert done.returncode == 0, done.stderr
    # The first process alone prints.
    assert len(done.stdout.splitlines()) == 1 and "8 steps" in done.stdout
    pd.testing.assert_frame_equal(history(two), history(one)[:9], rtol=SAME)
    alone(two, 4, resume=True)
    pd.testing.assert_frame_equal(history(two), history(one), rtol=SAME)
    assert np.linalg.norm(dictionary(two) - dictionary(one)) < SAME * np.linalg.norm(
        dictionary(one)
    )


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:the loss rose:pudle.learning.learner.LearningWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "lbfgs", "batch": 70},
        {"estimator": "spsa(samples=4)", "optimizer": "sgd(learning_rate=0.01)"},
        {"estimator": "noodl", "algorithm": "noodl(step=0.2)", "fresh": True},
        # One process has no sample.
        {"batch": 1},
        {
            "dataset": "noisy_crops(n_samples=4, size=20, n_components=8, kernel=5)",
            "batch": 3,
            "algorithm": "ista",
        },
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_kind_of_step_is_that_of_one_process(changes, tmp_path):
    changes = {**changes}
    alone(tmp_path / "one", 2, **changes)
    fresh = ["--fresh"] if changes.pop("fresh", False) else []
    done = run(tmp_path / "two", *fresh, epochs=2, **changes)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(history(tmp_path / "two"), history(tmp_path / "one"), rtol=SAME)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_lost_ends_the_training_with_an_error_and_it_resumes(tmp_path, fault):
    """One that is killed closes its connections; one that is stopped says nothing, and the others
    wait in vain.
    """
    folder = tmp_path / "lost"
    training = subprocess.Popen(
        command(folder, epochs=100_000, timeout=10),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "history.csv").exists():
            assert training.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(_second(training.pid), fault)
        # torchrun gives a process that is stopped half a minute to end.
        errors = training.communicate(timeout=120)[1]
    finally:
        training.kill()
    assert training.returncode != 0
    assert (
        "another process of this training has ended" in errors
        and "start the training again with --resume" in errors
    )
    steps = len(history(folder)) - 1
    assert steps >= 1
    epochs = steps // 4 + 2
    alone(folder, epochs, resume=True)
    alone(tmp_path / "whole", epochs)
    pd.testing.assert_frame_equal(history(folder), history(tmp_path / "whole"), rtol=SAME)


def _second(launcher: int) -> int:
    """Return the id of the process of rank 1."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and b"RANK=1" in (path / "environ").read_bytes().split(b"\0"):
                return int(path.name)
        except (OSError, ValueError):
            continue
    raise AssertionError("torchrun has no process of rank 1")


@pytest.mark.nightly
def test_a_refusal_is_one_line(tmp_path):
    alone(tmp_path / "taken", 1)
    refused = run(tmp_path / "taken", epochs=1)
    (line,) = (line for line in refused.stderr.splitlines() if line.startswith("pudle: error"))
    assert refused.returncode != 0 and "holds a training already: resume it" in line


class Failing(Processes):
    """Processes of which another one reports that its part of a step has failed."""

    def add(self, *tensors: Tensor) -> None:
        if tensors[0].dtype == torch.float64 and tensors[0].shape == (2,):
            tensors[0][1] += 1


def test_a_step_that_fails_in_one_process_ends_all():
    learner, problem = pudle.Learner("alternating", "ista", 3, epochs=1, batch=100), planted()
    with pytest.warns(
        pudle.LearningWarning,
        match="diverged in step 1 of 3: it failed for the samples of another process",
    ):
        training = learner.fit(problem, processes=Failing())
    assert training.status == "diverged" and training.steps == 0
