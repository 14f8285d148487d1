"""Trainings that go wrong end with one line, and what was learned until then is kept."""

import dataclasses

import pandas as pd
import pytest
import torch
from comparisons import refusal
from examples import ridge_problem
from learning_helpers import Watched, planted

import pudle
from pudle import Learner, LearningWarning
from pudle.learning.checkpoint import DICTIONARY_FILE, HISTORY_FILE


@pytest.mark.parametrize(
    "optimizer, dataset",
    [
        ("sgd(learning_rate=1e308)", "sparse_gaussian(n_samples=60)"),
        ("adam(learning_rate=1e300)", "convolutional(n_samples=2)"),
        ("lbfgs(learning_rate=1e200)", "sparse_gaussian(n_samples=60)"),
    ],
)
@pytest.mark.filterwarnings("ignore:.* samples are fewer than")
def test_every_optimizer_reports_a_rate_that_overflows(optimizer, dataset, tmp_path):
    problem = pudle.make_dataset(dataset).problem()
    with pytest.warns(LearningWarning, match="step 1 of 3: .*an atom .*is zero, NaN or inf"):
        training = Learner("alternating", "ista", 3, optimizer, epochs=3).fit(
            problem, folder=tmp_path
        )
    # The last good dictionary is the first one.
    assert training.status == "diverged" and training.steps == 0
    torch.testing.assert_close(training.dictionary, problem.dictionary, rtol=1e-14, atol=0)
    assert len(pd.read_csv(tmp_path / HISTORY_FILE)) == 1
    assert (tmp_path / DICTIONARY_FILE).exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_ends_the_training(value, tmp_path):
    learner = Learner(Watched(7, value), "ista", 5, "sgd", epochs=5, batch=100)
    match = "diverged in step 8 of 15: the gradient has entries that are NaN"
    with pytest.warns(LearningWarning, match=match):
        training = learner.fit(planted(), folder=tmp_path)
    assert training.status == "diverged" and training.steps == 7
    assert training.history.step.tolist() == [0, 3, 6, 7]
    assert torch.isfinite(training.dictionary).all()
    written = pd.read_csv(tmp_path / HISTORY_FILE)
    pd.testing.assert_frame_equal(written, training.history, check_dtype=False)


@pytest.mark.parametrize("loss", ["lasso", "reconstruction"])
def test_a_penalty_above_which_all_codes_are_zero_is_told(loss):
    problem = dataclasses.replace(planted(), penalty=1e3, loss=loss)
    with pytest.warns(LearningWarning, match="every gradient is zero, .*lower the penalty"):
        training = Learner("backprop", "ista", 5, "adam", epochs=3).fit(problem)
    assert training.status == "still"


def test_a_problem_that_nothing_can_be_learned_from_is_refused():
    constant = torch.arange(20.0).double().expand(50, 20)
    alike = dataclasses.replace(planted(n_samples=50), observations=constant, generating_codes=None)
    for problem, text in (
        (alike, "constant (all samples are the same)"),
        (ridge_problem(), "a Ridge has no dictionary to learn: give a SparseCoding"),
    ):
        assert text in refusal(lambda problem=problem: Learner().fit(problem))


@pytest.mark.parametrize(
    "options, text",
    [
        ({"optimizer": "adam(decay1=1.0)"}, "decay1=1.0: give a number below 1"),
        ({"schedule": "step"}, "step needs every: write step(every=...)"),
        ({"depth": 1.5}, "depth=1.5 is not an integer"),
    ],
)
def test_wrong_options(options, text):
    assert text in refusal(lambda: Learner(**options))
