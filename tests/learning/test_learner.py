"""The learner: batches, seeds, histories, chunks and budgets; trainings that go wrong end with one
line, and what was learned until then is kept.
"""

import dataclasses

import pandas as pd
import pytest
import torch
from support.oracles.comparisons import refusal
from support.problems.learning import Watched, assert_same, planted, untimed
from support.problems.small_problems import ridge_problem
from threadpoolctl import threadpool_limits

import pudle
from pudle import Learner, LearningWarning, threads
from pudle.learning.checkpoint import DICTIONARY_FILE, HISTORY_FILE
from pudle.learning.run import HISTORY, Measure


def test_an_epoch_is_every_sample_once_in_an_order_of_its_own():
    problem, watched = planted(n_samples=50), Watched()
    Learner(watched, "ista", 2, epochs=2, batch=20).fit(problem)
    batches = [batch.observations for batch in watched.seen]
    assert [len(batch) for batch in batches] == [20, 20, 10] * 2
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:])
    assert not torch.equal(first, second)
    in_order = problem.observations[problem.observations[:, 0].argsort()]
    for epoch in (first, second):
        assert torch.equal(epoch[epoch[:, 0].argsort()], in_order)


def test_a_history_does_not_depend_on_the_number_of_threads(monkeypatch):
    """Recovery errors of a large dictionary are sums that several threads would split."""
    monkeypatch.setattr(threads, "number_of_cores", lambda: 7)
    problem = planted(n_samples=700, n_features=400, n_components=700)
    learner = Learner("backprop", "ista", 3, epochs=1, batch=350)
    before, trained = torch.get_num_threads(), []
    try:
        for number in (1, 7):
            torch.set_num_threads(number)
            with threadpool_limits(number):
                trained.append(learner.fit(problem))
    finally:
        torch.set_num_threads(before)
    assert_same(*trained)


def test_the_same_again_is_the_same_and_another_seed_is_not():
    problem = planted(n_samples=90)
    before = problem.dictionary.clone()
    learner = Learner("alternating", "ista", 5, epochs=3, batch=30, seed=1)
    first = learner.fit(problem)
    assert_same(first, learner.fit(problem))
    other = dataclasses.replace(learner, seed=2).fit(problem)
    assert not torch.equal(first.dictionary, other.dictionary)
    assert torch.equal(problem.dictionary, before)


def test_a_random_estimator_gets_new_directions_at_every_step():
    problem = planted(n_samples=40)
    learner = Learner("spsa(samples=1)", "ista", 3, "sgd(learning_rate=0.01)", epochs=2)
    two, one = (each.fit(problem) for each in (learner, dataclasses.replace(learner, epochs=1)))
    # One pair of samples gives a gradient along its direction; two along the same one would stay on
    # a line.
    first, second = one.dictionary - problem.dictionary, two.dictionary - one.dictionary
    assert abs(float((first * second).sum() / first.norm() / second.norm())) < 0.5


@dataclasses.dataclass
class First(Measure):
    """The first entry of the parameter; keeps the steps and the dictionaries that it saw."""

    seen: list = dataclasses.field(default_factory=list)

    def at(self, run):
        dictionary = run.learned.dictionary
        self.seen.append((run.counts.step, dictionary.clone()))
        return {"first": float(dictionary[0, 0])}


def test_a_history_has_its_columns_and_a_measures_and_progress_is_reported_after_every_step():
    calls, first = [], First()
    learner = Learner(depth=2, epochs=2, batch=100, record_every=2)
    training = learner.fit(planted(), progress=lambda *call: calls.append(call), measures=[first])
    history = training.history
    assert tuple(history.columns) == (*HISTORY, "first")
    assert history.step.tolist() == [0, 2, 4, 6] and (history.seconds.diff().iloc[1:] > 0).all()
    missing = history.columns[history.iloc[0].isna()]
    assert {*missing} == {"loss", "gradient_norm", "support_recovery", "learning_rate"}
    assert history.iloc[1:].notna().all(axis=None) and history.moved.iloc[0] == 0
    assert [(done, total) for done, total, _ in calls] == [(step, 6) for step in range(1, 7)]
    last = history.iloc[-1]
    assert calls[-1][2] == f"loss {last.loss:.4g}, first {last['first']:.4g}"
    steps, seen = zip(*first.seen, strict=True)
    assert list(steps) == history.step.tolist()
    assert list(history["first"]) == [float(theta[0, 0]) for theta in seen]
    assert torch.equal(seen[-1], training.dictionary)


@pytest.mark.parametrize("estimator", ["backprop", "analytic"])
def test_chunks_change_a_training_by_no_more_than_rounding(estimator):
    problem = planted("lasso", n_samples=50, n_features=10, n_components=16)
    learner = Learner(estimator, depth=60, optimizer="adam(learning_rate=1e-2)", epochs=5)
    whole, chunked = (
        each.fit(problem) for each in (learner, dataclasses.replace(learner, chunk=7))
    )
    assert torch.linalg.vector_norm(whole.dictionary - chunked.dictionary) < 1e-10
    pd.testing.assert_frame_equal(
        untimed(whole.history), untimed(chunked.history), rtol=1e-9, atol=1e-10
    )


def test_budget_of_a_clock_and_its_resumption(tmp_path):
    problem, ticks = planted(n_samples=40), iter(range(10**6))
    options = {
        "clock": lambda: float(next(ticks)),
        "measures": [First()],
        "folder": tmp_path,
    }
    learner = Learner(depth=3, epochs=9, batch=10)
    # The clock is read before and after a step, which therefore takes one tick.
    stopped = learner.fit(problem, budget=5, **options)
    assert stopped.steps == stopped.history.seconds.iloc[-1] == 5
    assert list(stopped.history.step) == [0, 4, 5]
    assert learner.fit(problem, budget=5, resume=True, **options).steps == 5
    whole = learner.fit(problem, resume=True, **options)
    assert whole.steps == 36 and whole.history["first"].notna().all()
    assert torch.equal(whole.dictionary, learner.fit(problem).dictionary)


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
