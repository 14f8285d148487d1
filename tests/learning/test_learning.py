"""The learner: steps that agree with numpy, trainings that survive being killed, and histories that tell what happened."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from examples import arrays_of, ridge_problem, sparse_problem
from sklearn.utils.estimator_checks import parametrize_with_checks
from tolerances import CLOSED_FORM, SAME_ARITHMETIC

import pudle
from pudle import Learner, LearningWarning, cli, match_atoms
from pudle.algorithms.unrolling import direct_gradients
from pudle.errors import InvalidArgument, SpecError, UnreadableResult
from pudle.learning.learner import CHECKPOINT, DICTIONARY_FILE, HISTORY, HISTORY_FILE
from pudle.learning.training import learning_experiments
from pudle.registry import load

OPTIMIZERS = ("sgd", "momentum(nesterov=True)", "adam(learning_rate=0.01)", "adamw(learning_rate=0.01)", "lbfgs")


def planted(loss="reconstruction", **options) -> pudle.SparseCoding:
    text = ", ".join(f"{key}={value}" for key, value in {"n": 300, "m": 20, "p": 30, "s": 2, **options}.items())
    return pudle.make_dataset(f"sparse_gaussian({text}, perturbation=0.1)").problem(loss)


def untimed(history: pd.DataFrame) -> pd.DataFrame:
    return history.drop(columns="seconds")


def assert_same(first, second) -> None:
    """Bit for bit, but for the clock."""
    assert torch.equal(first.dictionary, second.dictionary)
    pd.testing.assert_frame_equal(untimed(first.history), untimed(second.history), check_exact=True)
    assert (first.status, first.reason, first.steps) == (second.status, second.reason, second.steps)


@dataclass(frozen=True)
class Watched(pudle.GradientEstimator):
    """Alternating's gradient; keeps the batches it saw, and spoils the gradient of one step."""

    spoiled: int = -1
    value: float = float("nan")
    seen: list = field(default_factory=list, compare=False)

    name = "watched"
    computes = "direct"

    def estimate(self, problem, algorithm, depth):
        self.seen.append(problem)
        codes = algorithm.run(problem, depth).codes
        gradient = direct_gradients(problem, codes)[0]
        if len(self.seen) - 1 == self.spoiled:
            gradient = gradient * self.value
        return pudle.Estimate(gradient, codes)


@dataclass(frozen=True)
class Along(pudle.GradientEstimator):
    """Alternating's gradient, and a multiple of the atoms."""

    factor: float

    name = "along"
    computes = "direct"

    def estimate(self, problem, algorithm, depth):
        codes = algorithm.run(problem, depth).codes
        return pudle.Estimate(direct_gradients(problem, codes)[0] + self.factor * problem.dictionary, codes)


class TestStep:
    """One step against numpy."""

    @staticmethod
    def gradient(problem, depth, step):
        x, d = arrays_of(problem)
        codes = np.zeros((len(x), d.shape[1]))
        for _ in range(depth):
            values = codes - step * (codes @ d.T - x) @ d
            codes = np.sign(values) * np.maximum(np.abs(values) - step * problem.penalty, 0)
        return d, (codes @ d.T - x).T @ codes / len(x)

    def check(self, optimizer, advance):
        problem = sparse_problem()
        d, gradient = self.gradient(problem, 12, 0.1)
        moved = advance(d, gradient)
        expected = moved / np.linalg.norm(moved, axis=0)
        learner = Learner("alternating", "ista(step=0.1)", 12, optimizer, epochs=1)
        training = learner.fit(problem)
        difference = np.linalg.norm(training.dictionary.numpy() - expected) / np.linalg.norm(expected)
        assert difference < SAME_ARITHMETIC
        row = training.history.iloc[-1]
        assert row.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=CLOSED_FORM)
        assert row.moved == pytest.approx(np.linalg.norm(expected - d), rel=CLOSED_FORM)

    def test_gradient_descent(self):
        self.check("sgd(learning_rate=0.3)", lambda d, g: d - 0.3 * g)

    def test_adam(self):
        # Its first step is the gradient over its own size, whatever the decays.
        self.check("adam(learning_rate=0.01, epsilon=1e-3)", lambda d, g: d - 0.01 * g / (np.abs(g) + 1e-3))

    def test_adam_along_the_sphere(self):
        def advance(d, g):
            g = g - d * (d * g).sum(0)
            return d - 0.01 * g / (np.abs(g) + 1e-3)

        problem = sparse_problem()
        d, gradient = self.gradient(problem, 12, 0.1)
        expected = advance(d, gradient)
        expected /= np.linalg.norm(expected, axis=0)
        for spec in ("adam(learning_rate=0.01, epsilon=1e-3, tangent=True)",
                     "adamw(learning_rate=0.01, epsilon=1e-3, tangent=True, weight_decay=0)"):  # fmt: skip
            learned = Learner("alternating", "ista(step=0.1)", 12, spec, epochs=1).fit(problem).dictionary.numpy()
            assert np.linalg.norm(learned - expected) / np.linalg.norm(expected) < SAME_ARITHMETIC

    @pytest.mark.filterwarnings("ignore::pudle.learning.learner.LearningWarning")
    def test_along_the_sphere_what_lies_along_the_atoms_has_no_effect(self):
        problem = sparse_problem()

        def learned(factor, optimizer):
            return Learner(Along(factor), "ista(step=0.1)", 5, optimizer, epochs=3).fit(problem).dictionary

        along = "adam(learning_rate=0.01, tangent=True)"
        without = learned(0.0, along)
        np.testing.assert_allclose(learned(1.0, along), without, rtol=0, atol=1e-10)
        # Which is not so where Adam scales the whole gradient entry by entry.
        assert (learned(1.0, "adam(learning_rate=0.01)") - without).abs().max() > 1e-3

    def test_line_search_sees_the_gradient_at_unit_atoms(self):
        problem = sparse_problem("reconstruction")
        # A fixed step: one of 1/L moves with the dictionary, which estimators hold constant.
        learner = Learner("backprop", "ista(step=0.1)", 20, "lbfgs", epochs=3)
        from pudle.learning.learner import _Run

        run = _Run(learner, problem)
        scaled = run.start * torch.linspace(0.5, 2, run.start.shape[1], dtype=torch.float64)
        direction = torch.as_tensor(np.random.default_rng(5).standard_normal(scaled.shape))

        def loss(t):
            run.theta.data.copy_(scaled + t * direction)
            return run.evaluate(learner.estimator, problem.observations)[0]

        run.theta.data.copy_(scaled)
        gradient = run.evaluate(learner.estimator, problem.observations)[1]
        h = 1e-6
        assert float((gradient * direction).sum()) == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=1e-6)
        # Nothing changes along an atom.
        assert float((gradient * scaled).sum(0).abs().max()) < 1e-12


class TestTraining:
    @pytest.mark.parametrize(
        ("optimizer", "batch"),
        # Curvature pairs of different batches do not go together.
        [(optimizer, batch) for optimizer in OPTIMIZERS for batch in (None, 60) if (optimizer, batch) != ("lbfgs", 60)],
    )
    def test_every_optimizer_lowers_the_loss_and_the_error(self, optimizer, batch):
        problem = planted(n=200)
        training = Learner("backprop", "ista(step=0.2)", 20, optimizer, epochs=15, batch=batch).fit(problem)
        history = training.history
        assert training.status == "ok" and training.reason == ""
        assert history.loss.iloc[-1] < 0.95 * history.loss.iloc[1]
        assert history.dictionary_error.iloc[-1] < history.dictionary_error.iloc[0]

    def test_a_planted_dictionary_is_approached(self):
        problem = planted()
        training = Learner("backprop", "ista(step=0.2)", 40, "adam(learning_rate=0.01)", epochs=100).fit(problem)
        errors = training.history.relative_error
        assert errors.iloc[-1] < errors.iloc[0] / 5
        assert training.history.support_recovery.iloc[-1] > training.history.support_recovery.iloc[1]

    def test_atoms_have_unit_norm(self):
        for problem in (planted(), pudle.make_dataset("convolutional(n_samples=2, size=20)").problem()):
            training = Learner("alternating", "ista", 5, "sgd(learning_rate=1.0)", epochs=2).fit(problem)
            atoms = training.dictionary if problem.dictionary.ndim == 2 else training.dictionary.flatten(1).T
            assert training.dictionary.shape == problem.dictionary.shape
            assert torch.allclose(atoms.norm(dim=0), torch.ones(atoms.shape[1], dtype=atoms.dtype), rtol=1e-14)

    def test_the_problem_is_left_alone(self):
        problem = planted()
        before = problem.dictionary.clone()
        Learner(epochs=2, depth=3).fit(problem)
        assert torch.equal(problem.dictionary, before)

    def test_an_epoch_is_every_sample_once_in_an_order_of_its_own(self):
        problem, watched = planted(n=50), Watched()
        Learner(watched, "ista", 2, epochs=2, batch=20).fit(problem)
        sizes = [len(batch.observations) for batch in watched.seen]
        assert sizes == [20, 20, 10] * 2
        assert all(isinstance(batch, pudle.SparseCoding) for batch in watched.seen)
        epochs = [torch.cat([batch.observations for batch in watched.seen[at : at + 3]]) for at in (0, 3)]
        assert not torch.equal(*epochs)
        for epoch in epochs:
            assert torch.equal(epoch[epoch[:, 0].argsort()], problem.observations[problem.observations[:, 0].argsort()])

    def test_the_order_depends_on_the_seed_alone(self):
        fits = [Learner("alternating", "ista", 5, epochs=3, batch=30, seed=seed).fit(planted(n=90)) for seed in (1, 1, 2)]
        assert_same(fits[0], fits[1])
        assert not torch.equal(fits[0].dictionary, fits[2].dictionary)

    def test_a_random_estimator_gets_new_directions_at_every_step(self):
        problem = planted(n=40)
        learner = Learner("spsa(samples=1)", "ista", 3, "sgd(learning_rate=0.01)", epochs=2)
        training = learner.fit(problem)
        one = dataclasses.replace(learner, epochs=1).fit(problem)
        # One pair of samples gives a gradient along its direction; two along the same one would stay on a line.
        first, second = one.dictionary - problem.dictionary, training.dictionary - one.dictionary
        assert abs(float((first * second).sum() / first.norm() / second.norm())) < 0.5

    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [
            ("constant", [1, 1, 1, 1, 1, 1]),
            ("step(every=2, factor=0.5)", [1, 1, 0.5, 0.5, 0.25, 0.25]),
            ("cosine", [(1 + np.cos(np.pi * epoch / 6)) / 2 for epoch in range(6)]),
            ("cosine(final=0.01, period=2)", [1, 0.55, 0.1, 0.1, 0.1, 0.1]),
        ],
    )
    def test_the_learning_rate_follows_the_schedule(self, schedule, expected):
        learner = Learner("alternating", "ista", 2, "sgd(learning_rate=0.1)", schedule, epochs=6, batch=100)
        rates = learner.fit(planted(n=200)).history.learning_rate.iloc[1:]
        np.testing.assert_allclose(rates / 0.1, expected, rtol=1e-12)


class TestHistory:
    def test_columns_and_rows(self):
        training = Learner(depth=5, epochs=3, batch=100).fit(planted())
        history = training.history
        assert tuple(history.columns) == HISTORY
        assert history.step.tolist() == [0, 3, 6, 9] and history.epoch.tolist() == [0, 1, 2, 3]
        assert history.iloc[0][["loss", "gradient_norm", "support_recovery", "learning_rate"]].isna().all()
        assert history.iloc[1:].notna().all(axis=None)
        assert history.moved.iloc[0] == 0 and (history.seconds.diff().iloc[1:] > 0).all()
        assert training.steps == 9

    def test_rows_between_epochs(self):
        history = Learner(depth=5, epochs=2, batch=100, record_every=2).fit(planted()).history
        assert history.step.tolist() == [0, 2, 4, 6]
        assert history.epoch.tolist() == pytest.approx([0, 2 / 3, 4 / 3, 2])

    def test_without_a_generating_dictionary_its_columns_are_empty(self):
        problem = dataclasses.replace(planted(), generating_dictionary=None, generating_codes=None)
        history = Learner(depth=5, epochs=1).fit(problem).history
        assert history[["dictionary_error", "relative_error", "support_recovery"]].isna().all(axis=None)

    def test_progress_is_told_after_every_step(self):
        told = []
        Learner(depth=2, epochs=2, batch=100).fit(planted(), progress=lambda *what: told.append(what))
        assert [(done, total) for done, total, _ in told] == [(step, 6) for step in range(1, 7)]
        assert set(told[-1][2]) == set(HISTORY)


class TestMatching:
    def test_a_planted_permutation_with_signs_is_undone(self):
        random = np.random.default_rng(11)
        truth = random.standard_normal((12, 20))
        truth /= np.linalg.norm(truth, axis=0)
        places, signs = random.permutation(20), random.choice([-1.0, 1.0], 20)
        noise = 0.01 * random.standard_normal(truth.shape)
        learned = np.empty_like(truth)
        learned[:, places] = (truth + noise) * signs
        matching = match_atoms(torch.as_tensor(learned), truth)
        np.testing.assert_array_equal(matching.places, places)
        np.testing.assert_array_equal(matching.signs, signs)
        assert matching.error == pytest.approx(np.linalg.norm(noise), rel=1e-12)
        assert matching.relative_error == pytest.approx(matching.error / np.sqrt(20), rel=1e-12)

    def test_it_is_the_best_of_all_pairings(self):
        from itertools import permutations, product

        random = np.random.default_rng(12)
        learned, truth = random.standard_normal((2, 3, 4))
        best = min(
            np.linalg.norm(learned[:, list(order)] * signs - truth)
            for order in permutations(range(4))
            for signs in product([-1.0, 1.0], repeat=4)
        )
        assert match_atoms(learned, truth).error == pytest.approx(best, rel=1e-12)

    def test_more_learned_atoms_than_generating_ones(self):
        truth = np.eye(4)[:, :2]
        matching = match_atoms(np.eye(4)[:, [3, 1, 2, 0]], truth)
        assert matching.places.tolist() == [3, 1] and matching.error == 0

    def test_supports_are_compared_after_matching(self):
        problem = planted()
        order = np.random.default_rng(13).permutation(30)
        shuffled = dataclasses.replace(problem, dictionary=-problem.dictionary[:, order])
        histories = [Learner("alternating", "ista", 30, epochs=1).fit(which).history for which in (problem, shuffled)]
        for column in ("dictionary_error", "support_recovery"):
            np.testing.assert_allclose(histories[0][column], histories[1][column], rtol=1e-9)

    @pytest.mark.parametrize(
        ("learned", "truth", "text"),
        [
            (np.ones((3, 2)), np.ones((4, 2)), "cannot be matched"),
            (np.ones((3, 2)), np.ones((3, 4)), "cannot be matched"),
            (np.full((3, 2), np.nan), np.ones((3, 2)), "NaN or infinite"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, learned, truth, text):
        with pytest.raises(InvalidArgument, match=text):
            match_atoms(learned, truth)


class Killed(Exception):
    pass


def stop_at(step):
    def progress(done, total, row):
        if done == step:
            raise Killed

    return progress


KILLABLE = Learner("backprop", "fista", 10, "adam(learning_rate=0.01)", "cosine", 8, 20)
KILLED_DATASET = "sparse_gaussian(n_samples=90, n_features=12, n_components=18, n_nonzero_coefs=2, perturbation=0.1)"
#: The same training, slowly, in a process that can be killed.
SCRIPT = f"""
import sys, time, torch, pudle
torch.set_num_threads(1)
problem = pudle.make_dataset({KILLED_DATASET!r}).problem("reconstruction")
learner = pudle.Learner(**{KILLABLE.describe()!r})
learner.fit(problem, folder=sys.argv[1], save_seconds=0, progress=lambda *_: time.sleep(0.05))
"""


class TestResume:
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_a_resumed_training_ends_bitwise_where_an_uninterrupted_one_does(self, optimizer, tmp_path):
        problem = planted(n=100)
        learner = Learner("backprop", "ista(step=0.2)", 8, optimizer, "step(every=1, factor=0.7)", epochs=4, batch=30)
        whole = learner.fit(problem)
        for step in (5, 11):  # in the middle of an epoch, and a second time
            with pytest.raises(Killed):
                learner.fit(problem, folder=tmp_path, resume=step > 5, save_seconds=0, progress=stop_at(step))
        resumed = learner.fit(problem, folder=tmp_path, resume=True)
        assert_same(resumed, whole)
        assert (np.load(tmp_path / DICTIONARY_FILE) == whole.dictionary.numpy()).all()
        written = pd.read_csv(tmp_path / HISTORY_FILE)
        pd.testing.assert_frame_equal(untimed(written), untimed(whole.history), check_dtype=False, rtol=1e-15)
        # A second time there is nothing left to do.
        assert_same(learner.fit(problem, folder=tmp_path, resume=True), whole)

    def test_kill_9(self, tmp_path):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)])
        deadline = time.monotonic() + 120
        history = tmp_path / HISTORY_FILE
        while not history.exists() or len(history.read_text().splitlines()) < 4:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert 3 <= len(pd.read_csv(history)) < 9
        problem = pudle.make_dataset(KILLED_DATASET).problem("reconstruction")
        assert_same(KILLABLE.fit(problem, folder=tmp_path, resume=True), KILLABLE.fit(problem))

    def test_more_epochs_can_be_added(self, tmp_path):
        problem, learner = planted(n=60), Learner("alternating", "ista", 5, epochs=2)
        learner.fit(problem, folder=tmp_path)
        more = dataclasses.replace(learner, epochs=4)
        assert_same(more.fit(problem, folder=tmp_path, resume=True), more.fit(problem))

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"depth": 6}, "with depth=5, not 6"),
            ({"optimizer": "adam(learning_rate=0.5)"}, "with optimizer='adam', not 'adam(learning_rate=0.5)'"),
            ({"schedule": "cosine"}, "epochs=None, not 2"),
        ],
    )
    def test_another_training_is_not_continued(self, change, text, tmp_path):
        problem, learner = planted(n=60), Learner("alternating", "ista", 5, epochs=2)
        learner.fit(problem, folder=tmp_path)
        with pytest.raises(InvalidArgument) as caught:
            dataclasses.replace(learner, **change).fit(problem, folder=tmp_path, resume=True)
        assert text in str(caught.value)
        with pytest.raises(InvalidArgument, match="with other data or another start"):
            learner.fit(planted(n=60, seed=1), folder=tmp_path, resume=True)
        with pytest.raises(InvalidArgument, match="holds a training already: resume it, or give another folder"):
            learner.fit(problem, folder=tmp_path)

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(InvalidArgument, match="holds no checkpoint to resume: start without resuming first"):
            Learner(depth=1, epochs=1).fit(planted(), folder=tmp_path, resume=True)
        with pytest.raises(InvalidArgument, match="resume=True needs the folder"):
            Learner(depth=1, epochs=1).fit(planted(), resume=True)

    @pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and nothing more", None])
    def test_a_damaged_checkpoint_is_refused_by_name(self, damage, tmp_path):
        learner = Learner("alternating", "ista", 2, epochs=1)
        learner.fit(planted(), folder=tmp_path)
        path = tmp_path / CHECKPOINT
        path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
        with pytest.raises(UnreadableResult, match="delete it and start again") as caught:
            learner.fit(planted(), folder=tmp_path, resume=True)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("dataset", "loss", "options"),
        [
            ("sparse_gaussian(n_samples=50, n_features=12, n_components=18, n_nonzero_coefs=2, perturbation=0.1)", "lasso",
             {"estimator": "analytic", "depth": 60}),
            ("sparse_gaussian(n_samples=50, n_features=12, n_components=18, n_nonzero_coefs=2, perturbation=0.1)", "lasso",
             {"estimator": "spsa(samples=2)"}),
            ("sparse_gaussian(n_samples=50, n_features=12, n_components=18, n_nonzero_coefs=2, perturbation=0.1)", "lasso",
             {"optimizer": "adam(learning_rate=0.01, tangent=True)"}),
            ("convolutional(n_samples=6, size=20, n_components=4, density=0.1)", "reconstruction", {"batch": 3, "chunk": 2}),
            ("noisy_crops(n_samples=6, size=20, n_components=8, kernel=5)", "reconstruction", {"batch": 3, "chunk": 2}),
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("ignore:the loss rose:pudle.learning.learner.LearningWarning")
    def test_so_do_chunks_noisy_images_and_estimators_with_a_seed(self, dataset, loss, options, tmp_path):
        problem = pudle.make_dataset(dataset).problem(loss)
        common = {"estimator": "backprop", "algorithm": "ista", "depth": 4, "optimizer": "momentum(learning_rate=0.1)",
                  "schedule": "cosine", "epochs": 3, "batch": 20, "chunk": 8, "record_every": 2}  # fmt: skip
        learner = Learner(**(common | options))
        whole = learner.fit(problem)
        assert whole.history.moved.iloc[-1] > 1e-4
        for step in (1, 4):  # the first step, and within an epoch and between two rows of the history
            with pytest.raises(Killed):
                learner.fit(problem, folder=tmp_path, resume=step > 1, save_seconds=0, progress=stop_at(step))
        assert_same(learner.fit(problem, folder=tmp_path, resume=True), whole)

    def test_a_training_that_diverged_is_returned_as_it_ended(self, tmp_path):
        """Without a further step, also with more epochs: it would only diverge again."""
        learner = Learner("alternating", "ista(step=0.37)", 5, "sgd(learning_rate=30.0)", epochs=30, batch=50)
        with pytest.warns(LearningWarning, match="diverged in step .* of 180: step=0.37 is above 2/L"):
            whole = learner.fit(planted(), folder=tmp_path)
        before = (tmp_path / HISTORY_FILE).read_bytes()
        told = []
        for again in (learner, dataclasses.replace(learner, epochs=60)):
            with pytest.warns(LearningWarning, match="diverged in step .* of 180"):
                resumed = again.fit(planted(), folder=tmp_path, resume=True, progress=lambda *what: told.append(what))
            assert_same(resumed, whole)
            assert not told and (tmp_path / HISTORY_FILE).read_bytes() == before

    def test_one_that_was_killed_before_it_diverged_diverges_alike(self, tmp_path):
        learner = Learner("alternating", "ista(step=0.37)", 5, "sgd(learning_rate=30.0)", epochs=30, batch=50)
        with pytest.warns(LearningWarning, match="diverged"):
            whole = learner.fit(planted())
        with pytest.raises(Killed):
            learner.fit(planted(), folder=tmp_path, save_seconds=0, progress=stop_at(1))
        with pytest.warns(LearningWarning, match="diverged"):
            assert_same(learner.fit(planted(), folder=tmp_path, resume=True), whole)


class TestTrouble:
    """What goes wrong is said in one line, and what was learned until then is kept."""

    @pytest.mark.parametrize(
        "optimizer", ["sgd(learning_rate=1e308)", "adam(learning_rate=1e300)", "lbfgs(learning_rate=1e200)"]
    )
    @pytest.mark.parametrize(
        "dataset",
        ["sparse_gaussian(n_samples=60, n_features=12, n_components=18, n_nonzero_coefs=2)", "convolutional(n_samples=2)"],
    )
    def test_every_optimizer_says_when_its_rate_is_beyond_all_numbers(self, optimizer, dataset, tmp_path):
        problem = pudle.make_dataset(dataset).problem()
        with pytest.warns(LearningWarning, match="diverged in step 1 of 3: .*an atom .*is zero, NaN or infinite"):
            training = Learner("alternating", "ista", 3, optimizer, epochs=3).fit(problem, folder=tmp_path)
        assert training.status == "diverged" and torch.isfinite(training.dictionary).all()
        assert len(pd.read_csv(tmp_path / HISTORY_FILE)) == 1 and (tmp_path / DICTIONARY_FILE).exists()

    def test_filters_that_the_learning_made_unstable(self, tmp_path):
        problem = pudle.make_dataset("convolutional(n_samples=4, size=16, n_components=4, perturbation=0.1)").problem()
        step = 1.9 / problem.lipschitz_constant
        learner = Learner("alternating", f"ista(step={step})", 3, "sgd(learning_rate=10.0)", epochs=40)
        with pytest.warns(LearningWarning, match="diverged in step .*: step=.* is above 2/L"):
            training = learner.fit(problem, folder=tmp_path)
        written = pd.read_csv(tmp_path / HISTORY_FILE)
        assert training.steps >= 1 and len(written) == len(training.history) == training.steps + 1

    def test_a_refused_first_step_leaves_nothing_behind(self, tmp_path):
        with pytest.raises(InvalidArgument, match="step=3.0 is above 2/L"):
            Learner("alternating", "ista(step=3.0)", 5).fit(planted(), folder=tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_no_epochs_leave_the_start(self, tmp_path):
        training = Learner(epochs=0).fit(planted(), folder=tmp_path)
        assert (np.load(tmp_path / DICTIONARY_FILE) == training.dictionary.numpy()).all() and training.steps == 0
        assert len(pd.read_csv(tmp_path / HISTORY_FILE)) == 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_gradient_that_is_not_finite_ends_the_training(self, value, tmp_path):
        learner = Learner(Watched(7, value), "ista", 5, "sgd", epochs=5, batch=100)
        with pytest.warns(LearningWarning, match="diverged in step 8 of 15: the gradient has entries that are NaN"):
            training = learner.fit(planted(), folder=tmp_path)
        assert training.status == "diverged" and training.steps == 7
        assert training.history.step.tolist() == [0, 3, 6, 7]
        assert torch.isfinite(training.dictionary).all()
        written = pd.read_csv(tmp_path / HISTORY_FILE)
        pd.testing.assert_frame_equal(written, training.history, check_dtype=False)
        good = Learner("alternating", "ista", 5, "sgd", epochs=5, batch=100).fit(planted())
        np.testing.assert_array_equal(training.history.loss[:3], good.history.loss[:3])

    def test_a_learning_rate_beyond_all_numbers(self):
        with pytest.warns(LearningWarning, match="an atom is zero, NaN or infinite after it: lower the learning rate"):
            training = Learner("alternating", "ista", 5, "sgd(learning_rate=1e308)", epochs=3).fit(planted())
        assert training.status == "diverged" and training.steps == 0
        # The last good dictionary is the first one.
        torch.testing.assert_close(training.dictionary, planted().dictionary, rtol=1e-14, atol=0)

    def test_a_learning_rate_that_is_too_large(self):
        with pytest.warns(LearningWarning, match="the loss rose from .* to .*: the learning rate is likely too large"):
            training = Learner("backprop", "ista", 20, "sgd(learning_rate=1000.0)", epochs=5).fit(planted())
        assert training.status == "rose" and len(training.history) == 6

    def test_a_step_that_the_learning_made_unstable(self):
        with pytest.warns(LearningWarning, match="diverged in step .*: step=0.37 is above 2/L"):
            training = Learner("alternating", "ista(step=0.37)", 5, "sgd(learning_rate=30.0)", epochs=30).fit(planted())
        assert training.status == "diverged" and len(training.history) == training.steps + 1 > 1

    def test_a_step_that_is_unstable_from_the_start_is_the_users(self):
        with pytest.raises(InvalidArgument, match="step=3.0 is above 2/L"):
            Learner("alternating", "ista(step=3.0)", 5).fit(planted())

    def test_fewer_samples_than_atoms(self):
        with pytest.warns(LearningWarning, match="20 samples are fewer than the 30 atoms"):
            Learner("alternating", "ista", 2, epochs=1).fit(planted(n=20))

    def test_fewer_positions_than_filters(self):
        problem = pudle.make_dataset("convolutional(n_samples=1, size=8, kernel=7, n_components=30)").problem()
        with pytest.warns(LearningWarning, match="4 samples are fewer than the 30 atoms"):
            Learner("alternating", "ista", 2, epochs=1).fit(problem)

    @pytest.mark.parametrize(
        "images",
        [
            torch.full((3, 1, 9, 9), 0.5),
            # One gray, or one color, per image.
            torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 9, 9),
            torch.rand(3, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(3, 3, 9, 9),
        ],
    )
    def test_constant_images(self, images):
        filters = torch.as_tensor(np.random.default_rng(2).standard_normal((4, images.shape[1], 5, 5)))
        problem = pudle.ConvolutionalSparseCoding(observations=images.double(), dictionary=filters, penalty=0.1)
        with pytest.raises(InvalidArgument, match="observations are constant"):
            Learner("alternating").fit(problem)
        # One that is constant among others is a sample like any other.
        mixed = torch.cat([images.double(), torch.as_tensor(np.random.default_rng(3).standard_normal(images.shape))])
        training = Learner("alternating", "ista", 3, epochs=2).fit(dataclasses.replace(problem, observations=mixed))
        assert training.status == "ok" and torch.isfinite(training.dictionary).all()

    def test_samples_that_are_all_flat(self):
        flat = torch.arange(50.0).double()[:, None].expand(50, 20)
        with pytest.raises(InvalidArgument, match=r"constant \(all entries of a sample are the same\)"):
            Learner().fit(dataclasses.replace(planted(n=50), observations=flat, generating_codes=None))

    def test_images_smaller_than_the_filters(self):
        images = torch.as_tensor(np.random.default_rng(4).standard_normal((2, 1, 5, 5)))
        with pytest.raises(InvalidArgument, match="observations are 5 x 5 pixels, smaller than the 7 x 7 filters"):
            pudle.ConvolutionalSparseCoding(observations=images, dictionary=torch.ones(3, 1, 7, 7).double(), penalty=0.1)

    @pytest.mark.parametrize(("observations", "what"), [(torch.ones(50, 20), "entries"), (torch.arange(20.0), "samples")])
    def test_constant_data(self, observations, what):
        problem = dataclasses.replace(
            planted(n=50), observations=observations.double().expand(50, 20), generating_codes=None
        )
        with pytest.raises(InvalidArgument, match=rf"observations are constant \(all {what} are the same\)"):
            Learner().fit(problem)

    def test_no_dictionary(self):
        with pytest.raises(InvalidArgument, match="a Ridge has no dictionary to learn: give a SparseCoding"):
            Learner().fit(ridge_problem())

    def test_a_zero_atom(self):
        problem = planted()
        dictionary = problem.dictionary.clone()
        dictionary[:, 3] = 0
        with pytest.raises(InvalidArgument, match="dictionary has an atom that is zero"):
            Learner().fit(dataclasses.replace(problem, dictionary=dictionary))

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"estimator": "backprp"}, "unknown estimator 'backprp' (did you mean 'backprop'?)"),
            (
                {"optimizer": "adm"},
                "unknown optimizer 'adm' (did you mean 'adam'?): known are adam, adamw, lbfgs, momentum, sgd",
            ),
            ({"optimizer": "adam(lr=1)"}, "adam has no argument 'lr'"),
            ({"optimizer": "sgd(learning_rate=0)"}, "learning_rate=0 is out of range: give a number > 0"),
            ({"optimizer": "adam(decay1=1.0)"}, "decay1=1.0 is out of range: give a number in [0, 1)"),
            ({"optimizer": "momentum(momentum=0, nesterov=True)"}, "nesterov=True needs a momentum above 0"),
            ({"schedule": "step"}, "step needs every: write step(every=...)"),
            ({"schedule": "step(every=2, factor=2)"}, "factor=2 raises the learning rate"),
            ({"schedule": "linear"}, "unknown schedule 'linear'"),
            ({"epochs": -1}, "epochs=-1 is too small: give a whole number >= 0"),
            ({"epochs": None}, "epochs=None is not an integer"),
            ({"batch": 0}, "batch=0 is too small: give a whole number >= 1"),
            ({"depth": 1.5}, "depth=1.5 is not an integer"),
        ],
    )
    def test_wrong_options(self, options, text):
        with pytest.raises((InvalidArgument, SpecError)) as caught:
            Learner(**options)
        assert text in str(caught.value) and "\n" not in str(caught.value)


def test_every_optimizer_and_schedule_is_tested():
    assert {spec.partition("(")[0] for spec in OPTIMIZERS} == set(load("optimizers"))
    assert set(load("schedules")) == {"constant", "step", "cosine"}


@pytest.fixture
def learn(tmp_path, monkeypatch, capsys):
    """`pudle learn` as the command line runs it, in a folder of its own: exit code, output, errors."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["pudle", "learn", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code or 0, out, err

    return run


SMALL = [
    "--dataset",
    "sparse_gaussian(n_samples=60, n_features=12, n_components=18, n_nonzero_coefs=2, perturbation=0.1)",
    "--depth",
    "5",
    "--batch",
    "20",
]


class TestCommand:
    def test_files_resume_and_refusals(self, learn, tmp_path):
        options = [*SMALL, "--optimizer", "sgd", "--out", "here"]
        code, out, err = learn(*options, "--epochs", "2")
        assert code == 0 and err == "", err
        assert "backprop with sgd: 6 steps" in out and "dictionary error" in out
        assert {path.name for path in (tmp_path / "here").iterdir()} == {
            CHECKPOINT, DICTIONARY_FILE, HISTORY_FILE, "learning.json",
        }  # fmt: skip
        code, _, err = learn(*options, "--epochs", "2")
        assert code == 2 and err.startswith("pudle: error: here holds a training already") and err.count("\n") == 1
        code, _, err = learn(*options, "--epochs", "4", "--resume")
        assert code == 0, err
        problem = pudle.LearningExperiment(SMALL[1]).problem()
        whole = Learner("backprop", "ista", 5, "sgd", epochs=4, batch=20).fit(problem)
        np.testing.assert_array_equal(np.load(tmp_path / "here" / DICTIONARY_FILE), whole.dictionary.numpy())
        summary = json.loads((tmp_path / "here" / "learning.json").read_text())
        assert summary["status"] == "ok" and summary["setting"]["epochs"] == 4

    def test_divergence_is_one_line_and_keeps_the_history(self, learn, tmp_path):
        code, _, err = learn(*SMALL, "--optimizer", "sgd(learning_rate=1e308)", "--out", "here")
        assert code == 2 and err.count("\n") == 1, err
        assert err.startswith("pudle: error: diverged in step 1 of 300: an atom is zero, NaN or infinite")
        assert len(pd.read_csv(tmp_path / "here" / HISTORY_FILE)) == 1

    def test_resuming_what_diverged_says_at_once_what_to_do(self, learn, tmp_path):
        options = [*SMALL, "--optimizer", "sgd(learning_rate=1e308)", "--out", "here"]
        first = learn(*options)
        history = (tmp_path / "here" / HISTORY_FILE).read_bytes()
        code, _, err = learn(*options, "--resume")
        assert (code, err) == (2, first[2]) and err.count("\n") == 1
        assert err.startswith("pudle: error: diverged in step 1 of 300: an atom is zero, NaN or infinite")
        assert err.endswith("lower the learning rate; the history up to there is in here, and --resume leads no further: "
                            "start in another folder\n")  # fmt: skip
        assert (tmp_path / "here" / HISTORY_FILE).read_bytes() == history
        assert json.loads((tmp_path / "here" / "learning.json").read_text())["status"] == "diverged"

    def test_a_step_that_is_refused_can_be_mended_in_the_same_folder(self, learn, tmp_path):
        options = [*SMALL, "--epochs", "1", "--out", "here"]
        code, _, err = learn(*options, "--algorithm", "ista(step=3.0)")
        assert code == 2 and "step=3.0 is above 2/L" in err and err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
        assert learn(*options, "--algorithm", "ista(step=0.1)")[0] == 0

    @pytest.mark.parametrize(
        ("dataset", "text"),
        [
            ("convolutional(size=4, kernel=7)", "kernel=7 is above size=4: filters must fit into the images"),
            ("image_crops(folder='tiny')", "size=32 does not fit into 0.png (5 x 5 pixels)"),
            ("image_patches(folder='tiny')", "size=8 does not fit into 0.png (5 x 5 pixels)"),
            ("image_crops(folder='flat')", "the patches of folder='flat' are all nearly constant"),
            ("image_patches(folder='flat')", "the patches of folder='flat' are all nearly constant"),
        ],
    )
    def test_images_that_are_too_small_or_constant(self, dataset, text, learn, tmp_path):
        from PIL import Image

        for folder, image in (("tiny", np.eye(5, dtype=np.uint8)), ("flat", np.full((40, 40), 90, dtype=np.uint8))):
            (tmp_path / folder).mkdir()
            Image.fromarray(image).save(tmp_path / folder / "0.png")
        code, out, err = learn("--dataset", dataset, "--out", "here")
        assert code == 2 and out == "" and text in err and err.count("\n") == 1, err
        assert not (tmp_path / "here").exists()

    @pytest.mark.parametrize(
        ("dataset", "text"),
        [
            ("digits(n_samples=20, n_components=64)", "20 samples are fewer than the 64 atoms"),
            ("convolutional(n_samples=1, size=8, kernel=7, n_components=30)", "4 samples are fewer than the 30 atoms"),
        ],
    )
    def test_fewer_samples_than_atoms_are_a_warning(self, dataset, text, learn):
        code, _, err = learn("--dataset", dataset, "--epochs", "1", "--depth", "2", "--out", "here")
        assert code == 0 and err.startswith(f"pudle: warning: {text}") and err.count("\n") == 1

    def test_warnings_are_lines_on_stderr(self, learn):
        code, out, err = learn(*SMALL, "--epochs", "3", "--optimizer", "sgd(learning_rate=1000.0)", "--out", "here")
        assert code == 0 and out.count("\n") == 1
        assert err.startswith("pudle: warning: the loss rose from ") and err.count("\n") == 1, err

    def test_a_setting_gives_way_to_options_beside_it(self, learn, tmp_path):
        code, _, err = learn("--setting", "2a-small-T25-backprop-lasso", *SMALL, "--epochs", "1", "--out", "here")
        assert code == 0, err
        setting = json.loads((tmp_path / "here" / "learning.json").read_text())["setting"]
        assert setting["depth"] == 5 and setting["algorithm"] == "ista(step=0.2)" and setting["dataset"] == SMALL[1]

    def test_a_training_can_start_where_another_ended(self, learn, tmp_path):
        options = [*SMALL, "--epochs", "2", "--optimizer", "sgd(learning_rate=0.05)"]
        assert learn(*options, "--out", "one")[0] == 0
        found = tmp_path / "one" / DICTIONARY_FILE
        code, _, err = learn(*options, "--start", found, "--out", "two")
        assert code == 0, err
        # Plain gradient descent keeps nothing but the dictionary, and both take the samples in the same order.
        problem = pudle.LearningExperiment(SMALL[1]).problem()
        first = Learner("backprop", "ista", 5, "sgd(learning_rate=0.05)", epochs=2, batch=20)
        once = first.fit(problem)
        again = first.fit(dataclasses.replace(problem, dictionary=once.dictionary))
        np.testing.assert_array_equal(np.load(tmp_path / "two" / DICTIONARY_FILE), again.dictionary.numpy())
        history = pd.read_csv(tmp_path / "two" / HISTORY_FILE)
        assert history.dictionary_error[0] == pytest.approx(once.history.dictionary_error.iloc[-1], rel=1e-12)
        assert json.loads((tmp_path / "two" / "learning.json").read_text())["setting"]["start"] == str(found)
        code, _, err = learn(*options, "--out", "two", "--resume")
        assert code == 2 and "two holds a training with other data or another start: resume it with" in err

    def test_a_start_in_the_other_order_of_bytes_is_the_same(self, tmp_path):
        dictionary = np.random.default_rng(0).standard_normal((12, 18))
        np.save(tmp_path / "start.npy", dictionary.astype(">f8"))
        setting = pudle.LearningExperiment(SMALL[1], start=str(tmp_path / "start.npy"))
        np.testing.assert_array_equal(setting.problem().dictionary.numpy(), dictionary)
        plain = dataclasses.replace(setting, start=None)
        assert setting.fingerprint().startswith(plain.fingerprint()) and setting.fingerprint() != plain.fingerprint()

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (None, "start='start.npy' cannot be read: No such file or directory"),
            (b"half", "is not a whole array of numbers (.npy)"),
            (b"\x93NUMPY\x01\x00\x08\x00{'descr'", "is not a whole array of numbers (.npy)"),
            (np.ones((12, 17)), "has shape (12, 17), and the dataset's dictionary (12, 18)"),
            (np.full((12, 18), np.nan), "holds entries that are not finite"),
            (np.ones((12, 18), dtype=complex), "holds complex128, not real numbers"),
            (np.zeros((12, 18)), "dictionary has an atom that is zero"),
        ],
    )
    def test_a_start_that_is_none_is_refused(self, content, text, learn, tmp_path):
        if isinstance(content, bytes):
            (tmp_path / "start.npy").write_bytes(content)
        elif content is not None:
            np.save(tmp_path / "start.npy", content)
        code, out, err = learn(*SMALL, "--start", "start.npy", "--out", "here")
        assert code == 2 and out == "" and text in err and err.count("\n") == 1, err
        assert not (tmp_path / "here").exists()

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["--out", "x"], "--dataset is missing"),
            (["--dataset", "digits"], "--out is missing"),
            (["--setting", "2a-T25-backprp-lasso", "--out", "x"], "did you mean '2a-T25-backprop-lasso'?"),
            (["--dataset", "ridge", "--loss", "linear", "--out", "x"], "has no dictionary to learn"),
            (["--dataset", "ridge", "--out", "x"], "loss='lasso' is unknown"),
            (["--dataset", "digits", "--resume", "--out", "x"], "x holds no checkpoint to resume"),
            (["--dataset", "digits", "--optimizer", "adm", "--out", "x"], "did you mean 'adam'?"),
            (["--dataset", "digits", "--epochs", "many", "--out", "x"], "'many' is not a valid integer"),
            (["--dataset", "digits", "--seed", "-1", "--out", "x"], "seed=-1 is too small"),
        ],
    )
    def test_wrong_usage_is_one_line_and_writes_nothing(self, arguments, text, learn, tmp_path):
        code, out, err = learn(*arguments)
        assert code == 2 and out == "" and text in err, err
        assert err.startswith("pudle: error: ") and err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_help_has_an_example_and_settings_are_listed(self, learn):
        assert "Examples:" in learn("--help")[1]
        assert len(learn("--settings")[1].splitlines()) == len(learning_experiments())


class TestRecovery:
    def test_every_named_setting_makes_a_learner_and_a_dataset(self):
        names = learning_experiments()
        assert {"2a-T100-backprop-reconstruction", "2b-s10-hard", "2b-small-s10-decaying"} <= set(names)
        for setting in names.values():
            assert setting.learner().describe()["depth"] == setting.depth
            assert pudle.make_dataset(setting.dataset).perturbation in (0.1, 0.005)


@pytest.mark.filterwarnings("ignore::pudle.learning.learner.LearningWarning")
# scikit-learn says so where a check does not apply to this kind of estimator.
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

        x = planted(n=60).observations.numpy()
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
            ({"n_components": 0}, "n_components=0 is not a number of atoms"),
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
            model = pudle.UnrolledDictionaryLearning(12, epochs=2, depth=3).fit(planted(n=10).observations.numpy())
        assert model.components_.shape == (12, 20) and np.isfinite(model.components_).all()

    def test_a_divergence_is_a_warning_and_the_history_is_kept(self):
        options = {"algorithm": "ista(step=0.3)", "optimizer": "sgd(learning_rate=30.0)", "depth": 5, "epochs": 30}
        with pytest.warns(LearningWarning, match="diverged in step .*: step=0.3 is above 2/L"):
            model = pudle.UnrolledDictionaryLearning(30, **options, random_state=0).fit(planted().observations.numpy())
        assert model.status_ == "diverged" and model.n_iter_ >= 1
        assert model.history_.step.iloc[-1] == model.n_iter_ and np.isfinite(model.components_).all()


@pytest.mark.parametrize("estimator", ["alternating", "backprop", "analytic"])
def test_chunks_change_a_training_by_no_more_than_rounding(estimator: str) -> None:
    problem = pudle.make_dataset(
        "sparse_gaussian(n_samples=50, n_features=10, n_components=16, n_nonzero_coefs=2, perturbation=0.1)"
    ).problem("lasso")
    whole, chunked = (
        pudle.Learner(estimator=estimator, depth=60, optimizer="adam(learning_rate=1e-2)", epochs=5, chunk=chunk).fit(
            problem
        )
        for chunk in (None, 7)
    )
    assert torch.linalg.vector_norm(whole.dictionary - chunked.dictionary) < 1e-10
    pd.testing.assert_frame_equal(
        whole.history.drop(columns="seconds"), chunked.history.drop(columns="seconds"), rtol=1e-9, atol=1e-10
    )
