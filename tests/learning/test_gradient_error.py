"""The error of the gradient along a training: what is measured, where it is missing, and that it
changes nothing.
"""

import dataclasses
import itertools
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
from learning_helpers import planted

import pudle
from pudle.learning.gradient_error import COSINE, ERROR, GAP

COLUMNS = [ERROR, COSINE, GAP]
NEAR = "sparse_gaussian(n_samples=60, n_features=16, n_components=18, n_nonzero_coefs=2)"


@dataclasses.dataclass(frozen=True)
class Kept(pudle.GradientEstimator):
    """Another estimator, whose problems and estimates are kept."""

    inner: str = "backprop"
    seen: list = dataclasses.field(default_factory=list, compare=False)

    name = "kept"
    computes = "direct"

    def estimate(self, problem, algorithm, depth):
        estimate = pudle.make_estimator(self.inner).estimate(problem, algorithm, depth)
        self.seen.append(
            (problem, dataclasses.replace(estimate, gradient=estimate.gradient.clone()))
        )
        return estimate


def learn(problem, *measures, **options):
    """Learn with a clock that ticks when it is read: the whole history can be compared."""
    ticks = itertools.count()
    learner = pudle.Learner(**{"algorithm": "ista(step=0.2)", "depth": 8, "epochs": 9} | options)
    source = pudle.make_dataset(NEAR) if learner.fresh else None
    return learner.fit(problem, measures=measures, clock=lambda: float(next(ticks)), source=source)


SMALL = {"n_samples": 60, "n_features": 16, "n_components": 18}
CROPS = "noisy_crops(n_samples=3, size=12, kernel=4, n_components=3, stride=2)"


@pytest.mark.parametrize(
    "problem, options",
    [
        ("lasso", {}),
        ("reconstruction", {"batch": 25, "record_every": 1}),
        ("reconstruction", {"batch": 25, "record_every": 2, "warm_start": True}),
        ("lasso", {"optimizer": "adam(learning_rate=0.01, tangent=True)"}),
        ("lasso", {"fresh": True, "batch": 20}),
        (CROPS, {"batch": 1, "algorithm": "fista"}),
    ],
)
def test_it_is_the_score_of_the_same_batch_and_changes_nothing(problem, options):
    given = (
        pudle.make_dataset(problem).problem("reconstruction")
        if "(" in problem
        else planted(problem, **SMALL)
    )
    kept, every = Kept(), 4
    without = learn(given, **options, estimator="backprop")
    training = learn(given, pudle.GradientError(every), **options, estimator=kept)
    assert torch.equal(training.theta, without.theta)
    history = training.history
    pd.testing.assert_frame_equal(history.drop(columns=COLUMNS), without.history, check_exact=True)
    steps = history.step.to_numpy()
    due = np.flatnonzero(np.diff(steps // every, prepend=0))
    assert len(due) > 1 and [*np.flatnonzero(history[GAP] == 0)] == [*due]
    for row in due:
        batch, estimate = kept.seen[steps[row] - 1]
        score = pudle.score(estimate, pudle.reference(batch))
        assert score.relative_error > 1e-6
        assert history[ERROR][row] == pytest.approx(score.relative_error, rel=1e-9)
        assert history[COSINE][row] == pytest.approx(1 - score.cosine_error, rel=1e-9)
    assert history.drop(index=due)[COLUMNS].isna().all(axis=None)


def test_an_exact_gradient_is_off_by_no_more_than_the_bound_of_its_reference():
    kept = Kept("analytic")
    options = {"algorithm": "active_set", "depth": 100, "estimator": kept}
    history = learn(planted("lasso", **SMALL), pudle.GradientError(), **options).history[1:]
    bounds = [pudle.reference(batch).bound for batch, _ in kept.seen]
    assert history[ERROR].tolist() == pytest.approx(bounds, rel=1e-6) and max(bounds) < 1e-9
    assert (history[COSINE] == 1).all() and (history[GAP] == 0).all()


def test_a_reference_that_is_not_certified_or_is_zero_is_a_gap_that_is_counted(tmp_path):
    twins = planted("lasso", **SMALL).dictionary
    twins[:, 1] = twins[:, 0]
    np.save(tmp_path / "twins.npy", twins.numpy())
    shared = {"depth": 8, "optimizer": "sgd(learning_rate=1e-9)", "epochs": 6, "gradient_error": 2}
    for dataset, start in ((f"{NEAR[:-1]}, penalty=99)", None), (NEAR, tmp_path / "twins.npy")):
        experiment = pudle.LearningExperiment(dataset, start=start and str(start), **shared)
        result = experiment.run(tmp_path / f"{start is None}")
        measured = pd.DataFrame(result.rows)[COLUMNS].iloc[[2, 4, 6]]
        assert measured[[ERROR, COSINE]].isna().all(axis=None) and (measured[GAP] == 1).all()
        assert result.summary[GAP] == 3 and np.isnan(result.summary[ERROR])


def test_a_summary_has_the_medians_along_the_training(tmp_path):
    experiment = pudle.LearningExperiment(NEAR, depth=8, epochs=9, gradient_error=2)
    result = experiment.run(tmp_path)
    errors = [row[ERROR] for row in result.rows if row[GAP] == 0]
    assert len(errors) == 4 and result.summary[GAP] == 0
    assert result.summary[ERROR] == statistics.median(errors)
    assert min(errors) < result.summary[ERROR] < max(errors)
    plain = dataclasses.replace(experiment, gradient_error=None).run(tmp_path / "plain")
    assert not {*COLUMNS} & {*plain.summary, *plain.rows[-1]}
