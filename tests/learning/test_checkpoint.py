"""A training that is interrupted and resumed ends bit for bit where an uninterrupted one does."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from support.oracles.comparisons import refusal
from support.problems.learning import OPTIMIZERS, assert_same, planted, untimed

import pudle
from pudle import Learner, LearningWarning
from pudle.learning.checkpoint import DICTIONARY_FILE, HISTORY_FILE

DATASET = (
    "sparse_gaussian(n_samples=90, n_features=12, n_components=18, n_nonzero_coefs=2,"
    " perturbation=0.1)"
)


class Killed(Exception):
    pass


def resumed(learner, problem, folder, stops):
    """Learn, stopped after some steps and resumed each time."""
    for step in stops:

        def progress(done, total, line, step=step):
            if done == step:
                raise Killed

        with pytest.raises(Killed):
            options = {"resume": step > stops[0], "save_seconds": 0, "progress": progress}
            learner.fit(problem, folder=folder, **options)
    return learner.fit(problem, folder=folder, resume=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, tmp_path):
    problem = planted(n_samples=60)
    schedule = "step(every=1, factor=0.7)"
    learner = Learner("backprop", "ista(step=0.2)", 5, optimizer, schedule, epochs=4, batch=20)
    whole = learner.fit(problem)
    # In the middle of an epoch, and a second time.
    assert_same(resumed(learner, problem, tmp_path, (4, 8)), whole)
    assert (np.load(tmp_path / DICTIONARY_FILE) == whole.dictionary.numpy()).all()
    written = untimed(pd.read_csv(tmp_path / HISTORY_FILE))
    pd.testing.assert_frame_equal(written, untimed(whole.history), check_dtype=False, rtol=1e-15)
    # After the end, resuming changes nothing.
    assert_same(learner.fit(problem, folder=tmp_path, resume=True), whole)


@pytest.mark.parametrize(
    "dataset, options",
    [
        (DATASET, {"estimator": "spsa(samples=2)"}),
        (DATASET, {"warm_start": True}),
        (DATASET, {"optimizer": "adam(learning_rate=0.01, tangent=True)"}),
        ("noisy_crops(n_samples=6, size=20, n_components=8, kernel=5)", {"batch": 3}),
    ],
)
@pytest.mark.filterwarnings("ignore:the loss rose:pudle.learning.learner.LearningWarning")
def test_chunks_noisy_images_warm_starts_and_estimators_with_a_seed(dataset, options, tmp_path):
    problem = pudle.make_dataset(dataset).problem("reconstruction")
    common = {
        "algorithm": "ista",
        "depth": 4,
        "optimizer": "momentum(learning_rate=0.1)",
        "schedule": "cosine",
        "epochs": 3,
        "batch": 20,
        "chunk": 2,
        "record_every": 2,
    }
    learner = Learner(**common | options)
    whole = learner.fit(problem)
    assert whole.history.moved.iloc[-1] > 1e-4
    # The first step, and within an epoch and between two rows of the history.
    assert_same(resumed(learner, problem, tmp_path, (1, 4)), whole)


def test_more_epochs_can_be_added_and_another_training_is_not_continued(tmp_path):
    problem, learner = planted(n_samples=60), Learner("alternating", "ista", 5, epochs=2)
    learner.fit(problem, folder=tmp_path)
    assert "holds a training already: resume it, or give another folder" in refusal(
        lambda: learner.fit(problem, folder=tmp_path)
    )
    assert "with other data or another start" in refusal(
        lambda: learner.fit(planted(n_samples=60, seed=1), folder=tmp_path, resume=True)
    )
    for change, text in (
        ({"depth": 6}, "with depth=5, not 6"),
        ({"optimizer": "sgd"}, "with optimizer='adam', not 'sgd'"),
        ({"schedule": "cosine"}, "epochs=None, not 2"),
        ({"epochs": 1}, "holds 2 steps, more than the 1 of epochs=1: give more epochs"),
    ):
        other = dataclasses.replace(learner, **change)
        again = functools.partial(other.fit, problem, folder=tmp_path, resume=True)
        assert text in refusal(again)
    more = dataclasses.replace(learner, epochs=4)
    assert_same(more.fit(problem, folder=tmp_path, resume=True), more.fit(problem))


def test_a_training_that_diverged_is_returned_as_it_ended(tmp_path):
    """It takes no further step, not even with more epochs: it would only diverge again."""
    learner = Learner(
        "alternating", "ista(step=0.37)", 5, "sgd(learning_rate=30.0)", epochs=30, batch=50
    )
    diverged = "diverged in step .* of 180: step=0.37 is above 2/L"
    with pytest.warns(LearningWarning, match=diverged):
        whole = learner.fit(planted(), folder=tmp_path)
    before = (tmp_path / HISTORY_FILE).read_bytes()
    calls = []
    for again in (learner, dataclasses.replace(learner, epochs=60)):
        with pytest.warns(LearningWarning, match=diverged):
            ended = again.fit(
                planted(), folder=tmp_path, resume=True, progress=lambda *call: calls.append(call)
            )
        assert_same(ended, whole)
        assert not calls and (tmp_path / HISTORY_FILE).read_bytes() == before
