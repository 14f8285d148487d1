"""Trainings that several processes share, started as torchrun starts them: one of them lost, and
another number of them.
"""

import signal
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from support.problems.learning import planted
from support.processes.commands import start
from support.processes.live import wait_for

import pudle
from pudle.learning.processes import Processes

#: What is seen is rounding, about 1e-15.
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
    "record_every": 1,
    "optimizer": "adam(learning_rate=0.01)",
    "gradient_error": 3,
}


def arguments(folder, **changes):
    named = {name.replace("_", "-"): value for name, value in {**OPTIONS, **changes}.items()}
    given = (f"--{name}={value}" for name, value in named.items() if value is not None)
    return ["learn", f"--out={folder}", *given]


def launch(*arguments):
    """Start two processes with the environment that torchrun gives them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(*arguments, env={**shared, "RANK": rank}) for rank in "01"]


def alone(folder, epochs, *, resume=False, **changes):
    """Learn with this process alone."""
    experiment = pudle.LearningExperiment(**{**OPTIONS, **changes}, epochs=epochs)
    experiment.learner().fit(
        experiment.problem(),
        folder=folder,
        resume=resume,
        source=experiment.source(),
        measures=experiment.measures(),
    )


def history(folder):
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def test_two_processes_take_the_steps_of_one_and_another_number_resumes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    alone(one, 4)
    first, second = (each.wait() for each in launch(*arguments(two, epochs=2)))
    assert first.returncode == second.returncode == 0, first.stderr
    # The first process alone prints.
    assert "steps 8" in first.stdout and second.stdout == ""
    pd.testing.assert_frame_equal(history(two), history(one)[:9], rtol=SAME)
    alone(two, 4, resume=True)
    pd.testing.assert_frame_equal(history(two), history(one), rtol=SAME)
    expected, learned = (np.load(folder / "dictionary.npy") for folder in (one, two))
    assert np.linalg.norm(learned - expected) < SAME * np.linalg.norm(expected)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:the loss rose:pudle.learning.learner.LearningWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "lbfgs", "batch": 70},
        {"estimator": "spsa(samples=4)", "optimizer": "sgd(learning_rate=0.01)"},
        # Its limit is no minimizer.
        {
            "estimator": "noodl",
            "algorithm": "noodl(step=0.2)",
            "fresh": True,
            "gradient_error": None,
        },
        {"warm_start": True},
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
    alone(tmp_path / "one", 2, **changes)
    flags = [f"--{name.replace('_', '-')}" for name, value in changes.items() if value is True]
    named = {name: value for name, value in changes.items() if value is not True}
    learn = [*arguments(tmp_path / "two", epochs=2, **named), *flags]
    assert [each.wait().returncode for each in launch(*learn)] == [0, 0]
    pd.testing.assert_frame_equal(history(tmp_path / "two"), history(tmp_path / "one"), rtol=SAME)


@pytest.mark.nightly
def test_torchrun_starts_the_processes(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    learn = ["-m", "pudle", *arguments(tmp_path, epochs=1)]
    done = subprocess.run([*torchrun, *learn], timeout=300, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_lost_ends_the_training_with_an_error_and_it_resumes(tmp_path, fault):
    """One that is killed closes its connections; one that is stopped says nothing, and the others
    wait in vain.
    """
    folder = tmp_path / "lost"
    first, second = launch(*arguments(folder, epochs=100_000, timeout=10))
    wait_for((folder / "history.csv").exists)
    second.send(fault)
    ended = first.wait(120)
    if fault == signal.SIGSTOP:
        second.send(signal.SIGKILL)
    second.wait()
    assert ended.returncode != 0
    assert "another process of this training has ended" in ended.stderr
    assert "start the training again with --resume" in ended.stderr
    epochs = (len(history(folder)) - 1) // 4 + 2
    alone(folder, epochs, resume=True)
    alone(tmp_path / "whole", epochs)
    pd.testing.assert_frame_equal(history(folder), history(tmp_path / "whole"), rtol=SAME)


class Failing(Processes):
    """Processes of which another one reports that its part of a step has failed."""

    def sum_in_place(self, *tensors):
        if tensors[0].shape == (2,):
            tensors[0][1] += 1


def test_a_step_that_fails_in_one_process_ends_all():
    learner, problem = pudle.Learner("alternating", "ista", 3, epochs=1, batch=100), planted()
    with pytest.warns(
        pudle.LearningWarning,
        match="diverged in step 1 of 3: it failed for the samples of another process",
    ):
        training = learner.fit(problem, processes=Failing())
    assert training.status == "diverged" and training.steps == 0
