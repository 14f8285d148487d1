"""The scikit-learn wrapper: its checks, pipelines, and the learner behind it."""

import numpy as np
import pytest
import scipy.sparse
from learning_helpers import planted
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import pudle
from pudle import LearningWarning
from pudle import UnrolledDictionaryLearning as Unrolled


@pytest.mark.filterwarnings("ignore::pudle.learning.learner.LearningWarning")
# scikit-learn warns where a check does not apply to this kind of estimator.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([Unrolled(n_components=3, epochs=2, depth=5)])
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
    model = Unrolled(25, epochs=1, algorithm="ista(thresholding='hard')", depth=7, random_state=0)
    codes = model.fit(x).transform(x)
    problem = pudle.SparseCoding(observations=x, dictionary=model.components_.T, penalty=0.1)
    np.testing.assert_allclose(
        codes, pudle.Ista(thresholding="hard").run(problem, 7).codes, atol=1e-12
    )


def test_components_are_rows_and_codes_may_be_sparse(x):
    model = Unrolled(25, epochs=3, batch=100, random_state=0).fit(x)
    codes, rows = model.transform(x), model.components_
    assert rows.shape == (25, 20) and codes.shape == (300, 25)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(model.inverse_transform(codes), codes @ rows)
    losses = model.history_.loss[1:]
    assert losses.iloc[-1] < losses.iloc[0] and model.status_ == "ok"
    assert (model.n_iter_, model.n_steps_) == (3, 9)
    np.testing.assert_array_equal(model.error_, losses)
    sparse = model.set_params(sparse_output=True).transform(x)
    assert isinstance(sparse, scipy.sparse.csr_array)
    assert sparse.nnz == np.count_nonzero(codes) < codes.size
    np.testing.assert_allclose(sparse.toarray(), codes, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.inverse_transform(sparse), codes @ rows, rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam(learning_rate=0.01)", "momentum(learning_rate=0.1)"])
def test_partial_fits_are_the_steps_of_a_fit(x, optimizer):
    """With the same batch in every step, and the same first dictionary."""
    model = Unrolled(25, epochs=4, batch=None, optimizer=optimizer, random_state=0)
    whole, parts = clone(model).fit(x), clone(model)
    for call in range(1, 5):
        assert parts.partial_fit(x).n_steps_ == call
    np.testing.assert_allclose(parts.components_, whole.components_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts.error_, whole.error_, rtol=1e-12)
    assert parts.partial_fit(x[:1]).components_.shape == (25, 20)


def test_a_partial_fit_that_diverges_keeps_the_dictionary(x):
    model = Unrolled(25, random_state=0).partial_fit(x)
    before = model.components_
    with pytest.warns(LearningWarning, match="not finite.*; the dictionary before this call is"):
        model.partial_fit(x * 1e200)
    np.testing.assert_array_equal(model.components_, before)


def test_wrong_options_are_refused_in_fit(x):
    with pytest.raises(ValueError, match="unknown estimator 'nothing'"):
        Unrolled(estimator="nothing").fit(x)
