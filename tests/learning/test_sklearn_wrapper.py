"""The scikit-learn wrapper: its checks, pipelines, and the learner behind it."""

import numpy as np
import pytest
from learning_helpers import planted
from sklearn.datasets import load_digits
from sklearn.decomposition import DictionaryLearning, sparse_encode
from sklearn.utils.estimator_checks import parametrize_with_checks

import pudle
from pudle import UnrolledDictionaryLearning as Unrolled


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
@pytest.mark.parametrize("atoms, alpha", [(32, 0.1), (64, 0.1), (32, 0.5)])
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


def test_wrong_options_are_refused_in_fit(x):
    with pytest.raises(ValueError, match="unknown estimator 'nothing'"):
        Unrolled(estimator="nothing").fit(x)
