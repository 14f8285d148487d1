"""Trainings that go wrong end with one line, and what was learned until then is kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from examples import ridge_problem
from learning_helpers import Watched, planted

import pudle
from pudle import Learner, LearningWarning
from pudle.errors import InvalidArgument, SpecError
from pudle.learning.checkpoint import DICTIONARY_FILE, HISTORY_FILE


class TestDivergence:
    @pytest.mark.parametrize(
        ("optimizer", "dataset"),
        [
            ("sgd(learning_rate=1e308)", "sparse_gaussian(n_samples=60)"),
            ("adam(learning_rate=1e300)", "convolutional(n_samples=2)"),
            ("lbfgs(learning_rate=1e200)", "sparse_gaussian(n_samples=60)"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.* samples are fewer than")
    def test_every_optimizer_reports_a_rate_that_overflows(self, optimizer, dataset, tmp_path):
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

    def test_filters_that_the_learning_made_unstable(self, tmp_path):
        problem = pudle.make_dataset(
            "convolutional(n_samples=4, size=16, n_components=4, perturbation=0.1)"
        ).problem()
        step = 1.9 / problem.lipschitz_constant
        learner = Learner(
            "alternating", f"ista(step={step})", 3, "sgd(learning_rate=10.0)", epochs=40
        )
        with pytest.warns(LearningWarning, match="diverged in step .*: step=.* is above 2/L"):
            training = learner.fit(problem, folder=tmp_path)
        written = pd.read_csv(tmp_path / HISTORY_FILE)
        assert training.steps >= 1 and len(written) == len(training.history) == training.steps + 1

    def test_no_epochs_leave_the_start(self, tmp_path):
        training = Learner(epochs=0).fit(planted(), folder=tmp_path)
        assert (
            np.load(tmp_path / DICTIONARY_FILE) == training.dictionary.numpy()
        ).all() and training.steps == 0
        assert len(pd.read_csv(tmp_path / HISTORY_FILE)) == 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_gradient_that_is_not_finite_ends_the_training(self, value, tmp_path):
        learner = Learner(Watched(7, value), "ista", 5, "sgd", epochs=5, batch=100)
        with pytest.warns(
            LearningWarning, match="diverged in step 8 of 15: the gradient has entries that are NaN"
        ):
            training = learner.fit(planted(), folder=tmp_path)
        assert training.status == "diverged" and training.steps == 7
        assert training.history.step.tolist() == [0, 3, 6, 7]
        assert torch.isfinite(training.dictionary).all()
        written = pd.read_csv(tmp_path / HISTORY_FILE)
        pd.testing.assert_frame_equal(written, training.history, check_dtype=False)
        good = Learner("alternating", "ista", 5, "sgd", epochs=5, batch=100).fit(planted())
        np.testing.assert_array_equal(training.history.loss[:3], good.history.loss[:3])

    def test_a_learning_rate_that_is_too_large(self):
        with pytest.warns(
            LearningWarning,
            match="the loss rose from .* to .*: the learning rate is likely too large",
        ):
            training = Learner("backprop", "ista", 20, "sgd(learning_rate=1000.0)", epochs=5).fit(
                planted()
            )
        assert training.status == "rose" and len(training.history) == 6

    @pytest.mark.parametrize(
        "images",
        [
            # One gray, or one color, per image.
            torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 9, 9),
            torch.rand(3, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(3, 3, 9, 9),
        ],
    )
    def test_constant_images(self, images):
        filters = torch.as_tensor(
            np.random.default_rng(2).standard_normal((4, images.shape[1], 5, 5))
        )
        problem = pudle.ConvolutionalSparseCoding(
            observations=images.double(), dictionary=filters, penalty=0.1
        )
        with pytest.raises(InvalidArgument, match="observations are constant"):
            Learner("alternating").fit(problem)

    @pytest.mark.parametrize(
        ("observations", "alike"),
        [
            (torch.ones(50, 20), "samples"),
            (torch.arange(20.0), "samples"),
            (torch.arange(50.0)[:, None], "entries of a sample"),
        ],
    )
    def test_constant_data(self, observations, alike):
        problem = dataclasses.replace(
            planted(n_samples=50),
            observations=observations.double().expand(50, 20),
            generating_codes=None,
        )
        with pytest.raises(InvalidArgument, match=rf"constant \(all {alike} are the same\)"):
            Learner().fit(problem)

    def test_no_dictionary(self):
        with pytest.raises(
            InvalidArgument, match="a Ridge has no dictionary to learn: give a SparseCoding"
        ):
            Learner().fit(ridge_problem())

    def test_a_zero_atom(self):
        problem = planted()
        dictionary = problem.dictionary.clone()
        dictionary[:, 3] = 0
        with pytest.raises(InvalidArgument, match="dictionary has an atom that is zero"):
            Learner().fit(dataclasses.replace(problem, dictionary=dictionary))


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            (
                {"optimizer": "adm"},
                (
                    "unknown optimizer 'adm' (did you mean 'adam'?): known are adam, adamw, lbfgs,"
                    " momentum, sgd"
                ),
            ),
            ({"optimizer": "adam(lr=1)"}, "adam has no argument 'lr'"),
            (
                {"optimizer": "sgd(learning_rate=0)"},
                "learning_rate=0 is out of range: give a number > 0",
            ),
            (
                {"optimizer": "adam(decay1=1.0)"},
                "decay1=1.0 is out of range: give a number in [0, 1)",
            ),
            (
                {"optimizer": "momentum(momentum=0, nesterov=True)"},
                "momentum=0 is out of range",
            ),
            ({"schedule": "step"}, "step needs every: write step(every=...)"),
            ({"schedule": "step(every=2, factor=2)"}, "factor=2 is above 1"),
            ({"epochs": -1}, "epochs=-1 is too small: give a whole number >= 0"),
            ({"batch": 0}, "batch=0 is too small: give a whole number >= 1"),
            ({"depth": 1.5}, "depth=1.5 is not an integer"),
        ],
    )
    def test_wrong_options(self, options, text):
        with pytest.raises((InvalidArgument, SpecError)) as caught:
            Learner(**options)
        assert text in str(caught.value) and "\n" not in str(caught.value)
