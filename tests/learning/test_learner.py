"""The learner: batches, seeds, histories and chunks."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch
from learning_helpers import Watched, assert_same, planted

import pudle
from pudle import Learner
from pudle.learning.run import HISTORY


class TestTraining:
    def test_a_planted_dictionary_is_approached(self):
        problem = planted(n_samples=150)
        training = Learner(
            "backprop", "ista(step=0.2)", 40, "adam(learning_rate=0.01)", epochs=60
        ).fit(problem)
        errors = training.history.relative_error
        assert errors.iloc[-1] < errors.iloc[0] / 5
        assert (
            training.history.support_recovery.iloc[-1] > training.history.support_recovery.iloc[1]
        )

    def test_atoms_have_unit_norm(self):
        for problem in (
            planted(),
            pudle.make_dataset("convolutional(n_samples=2, size=20)").problem(),
        ):
            training = Learner("alternating", "ista", 5, "sgd(learning_rate=1.0)", epochs=2).fit(
                problem
            )
            atoms = (
                training.dictionary
                if problem.dictionary.ndim == 2
                else training.dictionary.flatten(1).T
            )
            assert training.dictionary.shape == problem.dictionary.shape
            assert torch.allclose(
                atoms.norm(dim=0), torch.ones(atoms.shape[1], dtype=atoms.dtype), rtol=1e-14
            )

    def test_an_epoch_is_every_sample_once_in_an_order_of_its_own(self):
        problem, watched = planted(n_samples=50), Watched()
        Learner(watched, "ista", 2, epochs=2, batch=20).fit(problem)
        sizes = [len(batch.observations) for batch in watched.seen]
        assert sizes == [20, 20, 10] * 2
        assert all(isinstance(batch, pudle.SparseCoding) for batch in watched.seen)
        epochs = [
            torch.cat([batch.observations for batch in watched.seen[at : at + 3]]) for at in (0, 3)
        ]
        assert not torch.equal(*epochs)
        for epoch in epochs:
            assert torch.equal(
                epoch[epoch[:, 0].argsort()],
                problem.observations[problem.observations[:, 0].argsort()],
            )

    def test_the_same_again_is_the_same_and_another_seed_is_not(self):
        problem = planted(n_samples=90)
        before = problem.dictionary.clone()
        learner = Learner("alternating", "ista", 5, epochs=3, batch=30, seed=1)
        first, again, other = (
            each.fit(problem) for each in (learner, learner, dataclasses.replace(learner, seed=2))
        )
        assert_same(first, again)
        assert not torch.equal(first.dictionary, other.dictionary)
        assert torch.equal(problem.dictionary, before)

    def test_a_random_estimator_gets_new_directions_at_every_step(self):
        problem = planted(n_samples=40)
        learner = Learner("spsa(samples=1)", "ista", 3, "sgd(learning_rate=0.01)", epochs=2)
        training = learner.fit(problem)
        one = dataclasses.replace(learner, epochs=1).fit(problem)
        # One pair of samples gives a gradient along its direction; two along the same one would
        # stay on a line.
        first, second = one.dictionary - problem.dictionary, training.dictionary - one.dictionary
        assert abs(float((first * second).sum() / first.norm() / second.norm())) < 0.5


class TestHistory:
    def test_columns_and_rows(self):
        training = Learner(depth=5, epochs=3, batch=100).fit(planted())
        history = training.history
        assert tuple(history.columns) == HISTORY
        assert history.step.tolist() == [0, 3, 6, 9] and history.epoch.tolist() == [0, 1, 2, 3]
        assert (
            history.iloc[0][["loss", "gradient_norm", "support_recovery", "learning_rate"]]
            .isna()
            .all()
        )
        assert history.iloc[1:].notna().all(axis=None)
        assert history.moved.iloc[0] == 0 and (history.seconds.diff().iloc[1:] > 0).all()
        assert training.steps == 9

    def test_progress_is_reported_after_every_step_and_a_monitor_adds_columns(self):
        calls, seen = [], []

        def monitor(theta):
            seen.append(theta.clone())
            return {"first": float(theta[0, 0])}

        learner = Learner(depth=2, epochs=2, batch=100, record_every=2)
        training = learner.fit(
            planted(), progress=lambda *call: calls.append(call), monitor=monitor
        )
        history = training.history
        assert history.step.tolist() == [0, 2, 4, 6]
        assert [(done, total) for done, total, _ in calls] == [(step, 6) for step in range(1, 7)]
        last = history.iloc[-1]
        assert calls[-1][2] == f"loss {last.loss:.4g}, first {last['first']:.4g}"
        assert list(history["first"]) == [float(theta[0, 0]) for theta in seen]
        assert torch.equal(seen[-1], training.dictionary)


@pytest.mark.parametrize("estimator", ["backprop", "analytic"])
def test_chunks_change_a_training_by_no_more_than_rounding(estimator: str) -> None:
    problem = pudle.make_dataset(
        "sparse_gaussian(n_samples=50, n_features=10, n_components=16, n_nonzero_coefs=2,"
        " perturbation=0.1)"
    ).problem("lasso")
    whole, chunked = (
        pudle.Learner(
            estimator=estimator,
            depth=60,
            optimizer="adam(learning_rate=1e-2)",
            epochs=5,
            chunk=chunk,
        ).fit(problem)
        for chunk in (None, 7)
    )
    assert torch.linalg.vector_norm(whole.dictionary - chunked.dictionary) < 1e-10
    pd.testing.assert_frame_equal(
        whole.history.drop(columns="seconds"),
        chunked.history.drop(columns="seconds"),
        rtol=1e-9,
        atol=1e-10,
    )


class TestMonitorAndBudget:
    @staticmethod
    def problem():
        return pudle.make_dataset(
            "sparse_gaussian(n_samples=40, n_features=10, n_components=12, n_nonzero_coefs=2)"
        ).problem()

    def test_budget_of_a_clock_and_its_resumption(self, tmp_path):
        ticks = iter(range(10**6))
        options = {
            "clock": lambda: float(next(ticks)),
            "monitor": lambda dictionary: {"one": 1.0},
            "folder": tmp_path,
        }
        learner = pudle.Learner(depth=3, epochs=9, batch=10)
        # The clock is read before and after a step, which therefore takes one tick.
        stopped = learner.fit(self.problem(), budget=5, **options)
        assert (
            stopped.steps == 5
            and list(stopped.history.step) == [0, 4, 5]
            and stopped.history.seconds.iloc[-1] == 5
        )
        assert learner.fit(self.problem(), budget=5, resume=True, **options).steps == 5
        whole = learner.fit(self.problem(), resume=True, **options)
        assert whole.steps == 36 and whole.history.one.eq(1).all()
        never = learner.fit(self.problem())
        assert torch.equal(whole.dictionary, never.dictionary)
