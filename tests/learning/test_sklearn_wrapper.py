"""The scikit-learn wrapper: its checks, pipelines, and the learner behind it."""

import contextlib
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import DictionaryLearning, sparse_encode
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from support.problems.learning import planted

import pudle
from pudle import UnrolledDictionaryLearning as Unrolled
from pudle import threads
from pudle.learning import sklearn_wrapper
from pudle.learning.learner import LearningWarning
from pudle.learning.run import LearningRun


@pytest.mark.filterwarnings("ignore::pudle.learning.learner.LearningWarning")
# scikit-learn warns where a check does not apply to this kind of estimator.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([Unrolled(n_components=3, epochs=2)])
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def x():
    # Backwards, which torch does not take.
    return planted().observations.numpy()[::-1]


@pytest.mark.parametrize("dtype, precision", [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_codes_are_the_minimizers_of_the_lasso(x, dtype, precision, nonnegative):
    model = Unrolled(25, epochs=1, nonnegative=nonnegative, loss="reconstruction", random_state=0)
    codes = model.fit(x.astype(dtype)).transform(x.astype(dtype))
    assert codes.dtype == dtype and np.count_nonzero(codes) < codes.size
    # The optimality conditions.
    slopes = (x - codes @ model.components_) @ model.components_.T
    active = codes != 0
    assert np.abs(slopes - model.alpha * np.sign(codes))[active].max() < precision
    assert (slopes if nonnegative else np.abs(slopes))[~active].max() < model.alpha + precision
    assert not nonnegative or codes.min() >= 0


def test_codes_of_the_trained_layers_where_they_have_another_limit(x):
    layers = {"estimator": "backprop", "algorithm": "ista(thresholding='hard')", "depth": 7}
    model = Unrolled(25, epochs=1, **layers, random_state=0)
    codes = model.fit(x).transform(x)
    problem = pudle.SparseCoding(observations=x, dictionary=model.components_.T, penalty=0.1)
    np.testing.assert_allclose(
        codes, pudle.Ista(thresholding="hard").run(problem, 7).codes, atol=1e-12
    )


def test_components_are_rows(x):
    adam = "adam(learning_rate=0.01, tangent=True)"
    model = Unrolled(25, epochs=3, batch=100, optimizer=adam, random_state=0).fit(x)
    codes, rows = model.transform(x), model.components_
    assert rows.shape == (25, 20) and codes.shape == (300, 25)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(model.inverse_transform(codes), codes @ rows)
    losses = model.history_.loss[1:]
    assert losses.iloc[-1] < losses.iloc[0] and model.status_ == "ok"
    assert (model.n_iter_, model.n_steps_) == (3, 9)
    np.testing.assert_array_equal(model.error_, losses)


# Its coordinate descent stops a little early in some iterations.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "atoms, alpha", [pytest.param(32, 0.1, marks=pytest.mark.nightly), (64, 0.1), (32, 0.5)]
)
def test_the_default_ends_where_scikit_learn_does(atoms, alpha):
    """Within 0.5 % of the objective that 100 iterations of its batch learner reach, in unit atoms
    and codes by its own LARS.
    """
    x = load_digits().data[:150] / 16
    theirs = DictionaryLearning(
        atoms, alpha=alpha, max_iter=100, fit_algorithm="cd", random_state=0
    )

    def objective(rows):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        codes = sparse_encode(x, rows, algorithm="lasso_lars", alpha=alpha)
        return (0.5 * np.square(x - codes @ rows).sum() + alpha * np.abs(codes).sum()) / len(x)

    ours = Unrolled(atoms, alpha=alpha, random_state=0).fit(x)
    assert objective(ours.components_) < 1.005 * objective(theirs.fit(x).components_)


def test_batches_with_a_line_search_are_warned_of(x):
    with pytest.warns(LearningWarning, match="give another optimizer"):
        Unrolled(5, epochs=1, batch=100, random_state=0).fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LearningWarning)
        adam = "adam(learning_rate=0.01, tangent=True)"
        Unrolled(5, epochs=1, batch=100, optimizer=adam, random_state=0).fit(x)


def test_wrong_options_are_refused_in_fit(x):
    with pytest.raises(ValueError, match="unknown estimator 'nothing'"):
        Unrolled(estimator="nothing").fit(x)


def test_several_jobs_give_the_same_bits_and_leave_the_setting_of_torch(x, monkeypatch):
    monkeypatch.setattr(threads, "number_of_cores", lambda: 4)
    monkeypatch.setattr(threads, "LEAST_SHARE", 1)
    x, results, before = np.tile(x, (4, 1)), set(), torch.get_num_threads()
    for n_jobs in (None, 1, 2, -1):
        model = Unrolled(25, epochs=2, random_state=0, n_jobs=n_jobs).fit(x)
        results.add((model.components_.tobytes(), model.transform(x).tobytes()))
        assert torch.get_num_threads() == before
    assert len(results) == 1


@pytest.mark.parametrize("n_jobs", [0, 1.5, "two"])
def test_a_number_of_jobs_that_is_none_is_refused(x, n_jobs):
    with pytest.raises(pudle.InvalidArgument, match=f"n_jobs={n_jobs!r} is no number of threads"):
        Unrolled(25, n_jobs=n_jobs).fit(x)


def jobs_here(n_jobs=-1):
    return sklearn_wrapper._number_of_threads(n_jobs)


def test_jobs_follow_joblib(monkeypatch, x):
    """One by default, all for -1; and within its workers what these leave, as in a search of
    several processes, which starts no more threads than there are cores.
    """
    cores = joblib.cpu_count()
    assert jobs_here(None) == 1 and jobs_here() == cores and jobs_here(3) == 3
    with joblib.parallel_config(n_jobs=2):
        assert jobs_here(None) == 2
    calls = [joblib.delayed(jobs_here)() for _ in range(2)]
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    assert joblib.Parallel(n_jobs=2, backend="threading")(calls) == [1, 1]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert joblib.Parallel(n_jobs=2, backend="loky")(calls) == [max(cores // 2, 1)] * 2
    # By the same two processes.
    model = Unrolled(5, epochs=1, random_state=0, n_jobs=-1)
    search = GridSearchCV(
        model, {"alpha": [0.1, 0.2]}, cv=2, n_jobs=2, scoring=lambda *_: jobs_here()
    )
    search.fit(x)
    used = [search.cv_results_[f"split{split}_test_score"] for split in range(2)]
    assert np.max(used) * 2 <= max(cores, 2)


@pytest.mark.parametrize(
    "told, share", [("", 1), ("3", 3), ("4,2", 4), (" 2 , 1", 2), ("many", 1), ("0", 1)]
)
def test_a_process_of_joblib_takes_the_threads_it_is_told(monkeypatch, told, share):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert sklearn_wrapper._share_of_a_worker() == share


class Interrupted(Exception):
    """What a training is stopped by."""


@pytest.mark.parametrize("method", ["fit", "transform", "transform without a proximal operator"])
@pytest.mark.parametrize("fails", [False, True])
def test_small_operations_take_one_thread_and_the_setting_is_set_back(
    x, monkeypatch, method, fails
):
    hard = method.endswith("operator")
    algorithm = "fista(thresholding='hard(threshold=0.3)')" if hard else "fista"
    model, used, before = Unrolled(25, epochs=1, algorithm=algorithm), [], torch.get_num_threads()
    model.fit(x)

    def watched(function):
        def call(*args, **kwargs):
            used.append(torch.get_num_threads())
            if fails:
                raise Interrupted
            return function(*args, **kwargs)

        return call

    for owner, name in (
        (sklearn_wrapper, "reference"),
        (pudle.Fista, "run"),
        (LearningRun, "evaluate"),
    ):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    torch.set_num_threads(2)
    try:
        with pytest.raises(Interrupted) if fails else contextlib.nullcontext():
            getattr(model, method.split()[0])(x)
        assert used and set(used) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
