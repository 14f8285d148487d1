"""Dictionary learning with scikit-learn's interface, for pipelines and searches."""

import math
import os
import threading
import warnings
from dataclasses import KW_ONLY, dataclass, fields
from numbers import Integral
from typing import Any

import joblib
import numpy as np
import torch
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..estimator import GradientEstimator
from ..problems import SparseCoding
from ..references.certified import reference
from ..threads import block_threads, blocks_of, run_blocks, threads_for
from ..validation import check_integer, check_positive
from .learner import Learner, LearningWarning
from .matching import Array
from .optimizers import Optimizer, Schedule


# scikit-learn has its own text form of an estimator, and compares by identity.
@dataclass(repr=False, eq=False)
class UnrolledDictionaryLearning(
    # scikit-learn has no types.
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Learn a dictionary through sparse coding, and code observations with it.

    ``fit`` minimizes the mean over samples of the outer loss of the codes, over atoms of unit norm.
    By default codes are solved for exactly and the gradient is exact. With layers such as
    ``algorithm="fista", estimator="backprop", depth=30`` they are unrolled. ``transform`` returns
    the codes to which the layers converge, solved for exactly; where the thresholding rule leads
    elsewhere than to the minimizer of the inner problem, those after `depth` layers. ``fit`` checks
    the constructor's arguments. The first ``fit`` on a machine compiles kernels for some seconds.

    Names are those of scikit-learn's ``DictionaryLearning`` where both have the same thing.

    Parameters
    ----------
    n_components : int, optional
        Number of atoms (default: the number of features).
    alpha : float
        Weight of the l1 norm, the penalty elsewhere in this package.
    loss, nonnegative
        As in `pudle.SparseCoding`.
    estimator, algorithm, depth, optimizer, schedule, epochs, batch
        As in `pudle.TrainingOptions`; specs and plain values are easy to search over. Of
        ``active_set`` the depth bounds the changes of one sample's support. L-BFGS is for full
        batches: with a `batch`, give one such as ``adam(learning_rate=0.01, tangent=True)``.
    random_state : int, RandomState or None
        Seed of the first dictionary, whose atoms are samples with a little noise added, and of the
        sample order.
    n_jobs : int, optional
        Number of threads for ``fit`` and ``transform``, as scikit-learn has it: None is one, unless
        `joblib.parallel_config` says otherwise, and -1 all cores. Results are the same, bit for
        bit. Within a search that uses several processes or threads itself, there are no more than
        it leaves to each of them.

    Attributes
    ----------
    components_ : array, shape (n_components, n_features)
        Atoms as **rows**, scikit-learn's convention: the transpose of a dictionary elsewhere in
        this package.
    error_ : array, shape (n_iter_,)
        Mean outer loss of every epoch, each batch evaluated before its step.
    n_iter_, n_steps_, n_features_in_ : int
        Number of epochs, of steps, and of the features seen in ``fit``.
    history_, status_ : DataFrame, str
        As in `pudle.Training`; ``fit`` warns unless the status is ``ok``, such as where `alpha` is
        so large that all codes are zero.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from pudle import UnrolledDictionaryLearning
    >>> X = load_digits().data / 16
    >>> learner = UnrolledDictionaryLearning(32, epochs=5, random_state=0).fit(X)
    >>> learner.transform(X).shape
    (1797, 32)
    """

    n_components: int | None = None
    _: KW_ONLY
    alpha: float = 0.1
    loss: str = "lasso"
    estimator: str | GradientEstimator = "analytic"
    algorithm: str | Algorithm = "active_set"
    depth: int = 1000
    optimizer: str | Optimizer = "lbfgs"
    schedule: str | Schedule = "constant"
    epochs: int = 20
    batch: int | None = None
    nonnegative: bool = False
    random_state: Any = None
    n_jobs: int | None = None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def _validate(self, X: Any, reset: bool) -> Array:
        checked: Array = validate_data(self, X, dtype=[np.float64, np.float32], reset=reset)
        return checked

    def _begin(self, X: Array, random: np.random.RandomState) -> None:
        """Draw the first dictionary into `components_`: samples of unit norm, with noise so that no
        two atoms are alike.

        Samples that are zero are left out; where there are fewer samples than atoms, the other
        atoms are noise alone. Advances `random`.
        """
        features = X.shape[1]
        atoms = features if self.n_components is None else self.n_components
        check_integer("n_components", atoms, 1)
        norms = np.linalg.norm(X, axis=1)
        dictionary = random.standard_normal((features, atoms)) / math.sqrt(features)
        chosen = random.permutation(np.flatnonzero(norms > 0))[:atoms]
        start = dictionary[:, : len(chosen)]
        start[:] = X[chosen].T / norms[chosen] + 0.1 * start
        unit = dictionary / np.linalg.norm(dictionary, axis=0)
        self.components_: Array = unit.astype(X.dtype).T

    def fit(self, X: Any, y: Any = None) -> "UnrolledDictionaryLearning":
        """Learn the dictionary from X, shape (n_samples, n_features); y is ignored.

        The first dictionary is drawn from the samples by `random_state` (None is numpy's global
        one, as everywhere in scikit-learn). It sets the attributes that end in an underscore, and
        returns itself. Arguments out of range and constant data raise InvalidArgument, a
        ValueError; warnings are those of `Learner.fit`, and a LearningWarning where an optimizer
        that searches along a line gets batches.
        """
        samples, threads = self._validate(X, reset=True), _number_of_threads(self.n_jobs)
        random = check_random_state(self.random_state)
        learner = self._learner(int(random.randint(2**31 - 1)))
        if self.batch is not None and learner.parts.optimizer.searches:
            warnings.warn(
                f"batch={self.batch} with the optimizer {learner.parts.optimizer.name}: it compares"
                " losses along a line, which need all samples; give another optimizer, such as"
                " 'adam(learning_rate=0.01, tangent=True)', or batch=None",
                LearningWarning,
                stacklevel=2,
            )
        self._begin(samples, random)
        with block_threads(threads):
            training = learner.fit(self._problem(samples))
        self.components_ = training.dictionary.numpy().T.copy()
        self.history_, self.status_ = training.history, training.status
        self.n_steps_ = training.steps
        self.error_: Array = np.array([row["loss"] for row in training.rows[1:]])
        self.n_iter_ = len(self.error_)
        return self

    def transform(self, X: Any) -> Any:
        """Return the codes of observations, shape (n_samples, n_components), in the dtype of X;
        nothing is changed or drawn.

        They minimize the inner problem or, where the thresholding rule leads elsewhere, are those
        after `depth` layers. NotFittedError is raised before ``fit``.
        """
        check_is_fitted(self)
        samples, threads = self._validate(X, reset=False), _number_of_threads(self.n_jobs)
        algorithm = self._learner(0).parts.algorithm
        entries = len(samples) * len(self.components_)
        with block_threads(threads), threads_for(entries), torch.no_grad():
            if algorithm.thresholding.proximal:
                return self._minimizers(samples)
            return algorithm.run(self._problem(samples), self.depth).codes.numpy()

    def _minimizers(self, samples: Array) -> Array:
        """Return the codes that minimize the inner problem, shape (n_samples, n_components), solved
        exactly in blocks of samples, which may run in several threads.
        """
        codes = np.empty((len(samples), len(self.components_)), samples.dtype)

        def solve(rows: slice) -> None:
            # The same for every loss; this target's gradient is the cheapest.
            codes[rows] = reference(self._problem(samples[rows]), "ghat").codes.numpy()

        # A sample takes some dozen layers, each of which is two products with the dictionary.
        run_blocks(solve, blocks_of(len(samples)), 100.0 * codes.size * samples.shape[1])
        return codes

    def inverse_transform(self, codes: Any) -> Array:
        """Return the observations that belong to codes, ``codes @ components_``, shape (n_samples,
        n_features).
        """
        check_is_fitted(self)
        observations: Array = codes @ self.components_
        return observations

    def _learner(self, seed: int) -> Learner:
        parameters = self.get_params(deep=False)
        options = {field.name for field in fields(Learner)} & parameters.keys()
        return Learner(**{name: parameters[name] for name in options}, seed=seed)

    def _problem(self, X: Array) -> SparseCoding:
        """Return the sparse coding problem of observations with the current dictionary, both
        copied; InvalidArgument refuses an `alpha` that is not positive.
        """
        # Copies: torch would share memory, warns of read-only arrays, and refuses reversed ones.
        return SparseCoding(
            observations=torch.tensor(X.copy()),
            dictionary=torch.tensor(self.components_.T.astype(X.dtype)),
            penalty=check_positive("alpha", self.alpha),
            loss=self.loss,
            nonnegative=self.nonnegative,
        )


def _number_of_threads(n_jobs: int | None) -> int:
    """Return the number of threads that `n_jobs` stands for, by scikit-learn's conventions; within
    one of joblib's workers no more than its share. InvalidArgument refuses zero and what is no
    whole number.
    """
    if n_jobs is not None and (not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise InvalidArgument(
            f"n_jobs={n_jobs!r} is no number of threads: give one >= 1, -1 for all cores, or None"
        )
    threads: int = joblib.effective_n_jobs(n_jobs)
    backend, _ = get_active_backend()
    if backend.nesting_level:
        # One of joblib's workers, which has others beside it.
        threads = min(threads, _share_of_a_worker())
    return threads


def _share_of_a_worker() -> int:
    """Return the number of threads for one of joblib's workers: a process as many as joblib, or the
    user, tells it in OMP_NUM_THREADS, one without, and a thread only itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return 1
    # OpenMP also reads a list, one number for each level of nested regions.
    outermost = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(outermost), 1) if outermost.isdecimal() else 1
