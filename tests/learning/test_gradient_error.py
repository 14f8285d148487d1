"""The error of the gradient along a training: what is measured, where it is missing, and that it
changes nothing.
"""

import itertools
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
from support.problems.learning import Watched, planted

import pudle
from pudle.learning.learning_experiment import COSINE, ERROR, GAP

COLUMNS = [ERROR, COSINE, GAP]
SMALL = "sparse_gaussian(n_samples=60, n_features=16, n_components=18, n_nonzero_coefs=2{})"
CROPS = "noisy_crops(n_samples=3, size=12, kernel=4, n_components=3, stride=2)"


def learn(problem, estimator, *measures, source=None, **options):
    """Learn with a clock that ticks when it is read: the whole history can be compared."""
    ticks = itertools.count()
    learner = pudle.Learner(estimator, **{"algorithm": "ista", "depth": 8, "epochs": 9} | options)
    clock = {"clock": lambda: float(next(ticks))}
    return learner.fit(problem, measures=measures, source=source, **clock)


@pytest.mark.parametrize(
    "dataset, loss, options",
    [
        (SMALL, "lasso", {}),
        (SMALL, "reconstruction", {"batch": 25, "record_every": 2, "warm_start": True}),
        (SMALL, "lasso", {"optimizer": "adam(learning_rate=0.01, tangent=True)"}),
        (SMALL, "lasso", {"fresh": True, "batch": 20}),
        (CROPS, "reconstruction", {"batch": 1, "algorithm": "fista"}),
    ],
)
def test_it_is_the_score_of_the_same_batch_and_changes_nothing(dataset, loss, options):
    drawn = pudle.make_dataset(dataset.format(""))
    source, problem = drawn if "fresh" in options else None, drawn.problem(loss)
    watched, every = Watched(), 4
    without = learn(problem, Watched(), source=source, **options)
    training = learn(problem, watched, pudle.GradientError(every), source=source, **options)
    assert torch.equal(training.theta, without.theta)
    history, steps = training.history, training.history.step.to_numpy()
    pd.testing.assert_frame_equal(history.drop(columns=COLUMNS), without.history, check_exact=True)
    due = np.flatnonzero(np.diff(steps // every, prepend=0))
    assert len(due) > 1 and history.drop(index=due)[COLUMNS].isna().all(axis=None)
    for row in due:
        place = steps[row] - 1
        score = pudle.score(watched.made[place], pudle.reference(watched.seen[place]))
        expected = [score.relative_error, 1 - score.cosine_error, 0]
        assert history[COLUMNS].iloc[row].tolist() == pytest.approx(expected, rel=1e-9)


def test_an_exact_gradient_is_off_by_no_more_than_the_bound_of_its_reference():
    problem = planted("lasso")
    exact = {"algorithm": "active_set", "depth": 100}
    history = learn(problem, "analytic", pudle.GradientError(), **exact).history
    bound = pudle.reference(problem).bound
    assert history[ERROR][1] == pytest.approx(bound, rel=1e-3) and history[ERROR].max() < 1e-9


@pytest.mark.parametrize("missing", ["no", "zero", "uncertified"])
def test_a_summary_has_medians_and_counts_what_has_no_certified_reference(missing, tmp_path):
    twins = planted("lasso", n_features=16, n_components=18).dictionary
    twins[:, 1] = twins[:, 0]
    np.save(tmp_path / "twins.npy", twins.numpy())
    experiment = pudle.LearningExperiment(
        SMALL.format(", penalty=99" * (missing == "zero")),
        depth=8,
        # Twins stay twins.
        optimizer="sgd",
        epochs=7,
        start=str(tmp_path / "twins.npy") if missing == "uncertified" else None,
        gradient_error=2,
    )
    result = experiment.run(tmp_path / "here")
    measured = pd.DataFrame(result.rows)[COLUMNS].iloc[[2, 4, 6]]
    assert (measured[GAP] == (missing != "no")).all()
    assert result.summary[GAP] == measured[GAP].sum()
    for name in (ERROR, COSINE):
        assert (measured[name].isna() == measured[GAP]).all()
        median = pytest.approx(statistics.median(measured[name]), nan_ok=True)
        assert result.summary[name] == median
