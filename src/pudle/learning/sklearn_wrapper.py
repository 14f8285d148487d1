"""Unrolled dictionary learning with scikit-learn's interface, for pipelines and searches."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..algorithms import Algorithm
from ..estimator import GradientEstimator
from ..problems import SparseCoding
from ..registry import make_algorithm
from ..validation import check_integer
from .learner import Learner
from .optimizers import Optimizer, Schedule


# scikit-learn has its own text form of an estimator, and compares by identity.
@dataclass(repr=False, eq=False)
class UnrolledDictionaryLearning(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn a dictionary through unrolled sparse coding, and code observations with it.

    ``fit`` minimizes the mean over samples of the outer loss of the codes after `depth` layers, over atoms of unit norm;
    ``transform`` returns those codes. ``fit`` checks the constructor's arguments.

    Parameters
    ----------
    n_components : int, optional
        Number of atoms (default: the number of features).
    penalty, loss, nonnegative
        As in `pudle.SparseCoding`.
    estimator, algorithm, depth, optimizer, schedule, epochs, batch
        As in `pudle.Learner`; specs and plain values are easy to search over.
    random_state : int, RandomState or None
        Seed of the first dictionary, whose atoms are samples with a little noise added, and of the sample order.

    Attributes
    ----------
    components_ : array, shape (n_components, n_features)
        Atoms as **rows**, scikit-learn's convention: the transpose of a dictionary elsewhere in this package.
    history_, status_ : DataFrame, str
        As in `pudle.Training`; ``fit`` warns unless the status is ``ok``.
    n_iter_, n_features_in_ : int
        Number of steps, and of the features seen in ``fit``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from pudle import UnrolledDictionaryLearning
    >>> X = load_digits().data / 16
    >>> learner = UnrolledDictionaryLearning(n_components=32, epochs=5, batch=200, random_state=0).fit(X)
    >>> learner.transform(X).shape
    (1797, 32)
    """

    n_components: int | None = None
    _: KW_ONLY
    penalty: float = 0.1
    loss: str = "lasso"
    estimator: str | GradientEstimator = "backprop"
    algorithm: str | Algorithm = "fista"
    depth: int = 30
    optimizer: str | Optimizer = "adam(learning_rate=0.01)"
    schedule: str | Schedule = "constant"
    epochs: int = 20
    batch: int | None = 256
    nonnegative: bool = False
    random_state: Any = None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def fit(self, X: Any, y: Any = None) -> UnrolledDictionaryLearning:
        """Learn the dictionary from X, shape (n_samples, n_features); y is ignored.

        Arguments out of range and constant data raise InvalidArgument, a ValueError; warnings are those of `Learner.fit`.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        random = check_random_state(self.random_state)
        names = ("estimator", "algorithm", "depth", "optimizer", "schedule", "epochs", "batch")
        learner = Learner(**{name: getattr(self, name) for name in names}, seed=int(random.randint(2**31 - 1)))
        atoms = check_integer("n_components", X.shape[1] if self.n_components is None else self.n_components, 1)
        training = learner.fit(self._problem(X, _first_atoms(X, atoms, random)))
        self.components_ = training.dictionary.numpy().T.copy()
        self.history_, self.status_, self.n_iter_ = training.history, training.status, training.steps
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the codes of observations, shape (n_samples, n_components)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        algorithm: Any = make_algorithm(self.algorithm) if isinstance(self.algorithm, str) else self.algorithm
        with torch.no_grad():
            return algorithm.run(self._problem(X, self.components_.T), self.depth).codes.numpy()

    def inverse_transform(self, codes: Any) -> np.ndarray:
        """Return the observations that belong to codes, ``codes @ components_``, shape (n_samples, n_features)."""
        check_is_fitted(self)
        return np.asarray(codes) @ self.components_

    def _problem(self, X: np.ndarray, dictionary: np.ndarray) -> SparseCoding:
        # A copy: torch would share memory, and warns of read-only arrays.
        observations, atoms = torch.tensor(X), torch.tensor(dictionary.astype(X.dtype, copy=False))
        options: Any = {name: getattr(self, name) for name in ("penalty", "loss", "nonnegative")}
        return SparseCoding(observations=observations, dictionary=atoms, **options)


def _first_atoms(X: np.ndarray, atoms: int, random: np.random.RandomState) -> np.ndarray:
    """Return samples as columns of unit norm, with noise so that no two atoms are alike."""
    norms = np.linalg.norm(X, axis=1)
    usable = np.flatnonzero(norms > 0)
    dictionary = random.standard_normal((X.shape[1], atoms)) / math.sqrt(X.shape[1])
    if len(usable):
        chosen = random.permutation(usable)[:atoms]
        dictionary[:, : len(chosen)] = X[chosen].T / norms[chosen] + 0.1 * dictionary[:, : len(chosen)]
    return dictionary / np.linalg.norm(dictionary, axis=0)
