"""The scikit-learn wrapper: its checks, pipelines, and the learner behind it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from learning_helpers import planted
from sklearn.utils.estimator_checks import parametrize_with_checks

import pudle
from pudle import LearningWarning


@pytest.mark.filterwarnings("ignore::pudle.learning.learner.LearningWarning")
# scikit-learn warns where a check does not apply to this kind of estimator.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([pudle.UnrolledDictionaryLearning(n_components=3, epochs=2, depth=5)])
def test_scikit_learn(estimator, check):
    check(estimator)


class TestWrapper:
    def test_components_are_rows_and_codes_those_of_the_algorithm(self):
        x = planted().observations.numpy()
        model = pudle.UnrolledDictionaryLearning(25, epochs=3, batch=100, random_state=0)
        codes = model.fit_transform(x)
        assert model.components_.shape == (25, 20) and codes.shape == (300, 25)
        np.testing.assert_allclose(np.linalg.norm(model.components_, axis=1), 1, rtol=1e-12)
        problem = pudle.SparseCoding(
            observations=torch.as_tensor(x), dictionary=torch.as_tensor(model.components_.T), penalty=0.1
        )
        np.testing.assert_allclose(codes, pudle.Fista().run(problem, 30).codes, atol=1e-12)
        np.testing.assert_allclose(model.inverse_transform(codes), codes @ model.components_)
        assert model.history_.loss.iloc[-1] < model.history_.loss.iloc[1] and model.status_ == "ok"

    def test_in_a_pipeline_under_a_search(self):
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV
        from sklearn.pipeline import make_pipeline

        x = planted(n_samples=60).observations.numpy()
        y = (x[:, 0] > 0).astype(int)
        pipeline = make_pipeline(
            pudle.UnrolledDictionaryLearning(8, epochs=2, depth=5, random_state=0), LogisticRegression()
        )
        grid = {"unrolleddictionarylearning__estimator": ["alternating", "truncated(window=2)"]}
        search = GridSearchCV(pipeline, grid, cv=2).fit(x, y)
        assert set(search.cv_results_["rank_test_score"]) <= {1, 2}

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"n_components": 0}, "n_components=0 is too small"),
            ({"estimator": "nothing"}, "unknown estimator 'nothing'"),
            ({"penalty": -1.0}, "penalty=-1.0 is out of range"),
        ],
    )
    def test_wrong_options_are_refused_in_fit(self, options, text):
        with pytest.raises(ValueError, match=text):
            pudle.UnrolledDictionaryLearning(**options).fit(planted().observations.numpy())

    @pytest.mark.parametrize("image", [np.full((50, 4), 0.5), np.arange(50.0)[:, None].repeat(4, axis=1)])
    def test_constant_images(self, image):
        with pytest.raises(ValueError, match="observations are constant"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pudle.UnrolledDictionaryLearning().fit(image)

    def test_fewer_samples_than_atoms(self):
        with pytest.warns(LearningWarning, match="10 samples are fewer than the 12 atoms"):
            model = pudle.UnrolledDictionaryLearning(12, epochs=2, depth=3).fit(planted(n_samples=10).observations.numpy())
        assert model.components_.shape == (12, 20) and np.isfinite(model.components_).all()

    def test_a_divergence_is_a_warning_and_the_history_is_kept(self):
        options = {"algorithm": "ista(step=0.3)", "optimizer": "sgd(learning_rate=30.0)", "depth": 5, "epochs": 30}
        with pytest.warns(LearningWarning, match="diverged in step .*: step=0.3 is above 2/L"):
            model = pudle.UnrolledDictionaryLearning(30, **options, random_state=0).fit(planted().observations.numpy())
        assert model.status_ == "diverged" and model.n_iter_ >= 1
        assert model.history_.step.iloc[-1] == model.n_iter_ and np.isfinite(model.components_).all()
