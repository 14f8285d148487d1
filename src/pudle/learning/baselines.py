"""Dictionary learning as other libraries do it, from the same data and the same start, to set the learner's results against.

All of them minimize the mean of ``1/2 |x - D z|^2 + penalty |z|_1`` over codes and over unit atoms, each in its own way, and
none of them unrolls anything.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import UnsupportedProblem
from ..measuring.experiment import Experiment, ExperimentResult, ProgressCallback, silent
from ..registry import make_dataset
from ..streams import generator
from ..validation import check_integer
from .training import LearningExperiment

# What is imported late loads torch or takes a second, and a list of settings needs none of it.
if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Baseline(Experiment):
    """A library's dictionary learning, on one thread.

    Parameters
    ----------
    dataset : str
        Spec of the dataset, without its seed; its dictionary is where the learning starts, its penalty that of the codes.
    epochs : int
        Passes over the data, >= 0.
    seed : int
        Of the dataset, and of the order of its samples where the library leaves that to the caller.

    Notes
    -----
    A run takes minutes at most and keeps nothing on its way.
    """

    kind: ClassVar[str] = "baseline"
    #: Distributions whose versions a result depends on.
    distributions: ClassVar[tuple[str, ...]]

    dataset: str
    epochs: int = 10
    seed: int = 0

    @abstractmethod
    def passes(self, observations: Array, dictionary: Array, penalty: float) -> Iterator[Array]:
        """Yield the dictionary after each pass over the data, without end.

        Parameters
        ----------
        observations : array, shape (n, m)
        dictionary : array, shape (m, p)
            The start.
        penalty : float

        Raises
        ------
        MissingDependency
            If the library is not installed.
        """

    def run(self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent) -> ExperimentResult:
        """Learn the dictionary.

        One row at the start and one per pass: ``epoch``, ``seconds`` (of the processor, without the matching),
        ``dictionary_error`` and ``relative_error`` (distance to the generating dictionary, atoms of unit norm and matched by
        optimal assignment). The summary holds ``method``, the first and last of both errors, ``seconds`` and ``epochs``. The
        array ``dictionary`` is the learned one.

        Raises
        ------
        UnsupportedProblem
            On another device than the CPU, or for a dataset without a generating dense dictionary.
        MissingDependency
            If the library is not installed.
        """
        import numpy as np
        from threadpoolctl import threadpool_limits

        from ..problems import SparseCoding
        from .matching import match_atoms

        check_integer("epochs", self.epochs, 0)
        if device != "cpu":
            raise UnsupportedProblem(f"{type(self).__name__} computes on the CPU, not on {device}: use --device cpu")
        problem = LearningExperiment(dataset=self.dataset, seed=self.seed).problem()
        if not isinstance(problem, SparseCoding) or problem.generating_dictionary is None:
            raise UnsupportedProblem(
                f"dataset {self.dataset!r} has no generating dense dictionary to recover: give one such as sparse_gaussian"
            )
        generating = problem.generating_dictionary.numpy()
        dictionary, seconds, rows = problem.dictionary.numpy(), 0.0, []
        passes = self.passes(problem.observations.numpy(), dictionary.copy(), problem.penalty)
        with threadpool_limits(1):
            for epoch in range(self.epochs + 1):
                if epoch:
                    begun = time.process_time()
                    dictionary = np.array(next(passes))
                    seconds += time.process_time() - begun
                if not np.isfinite(dictionary).all():
                    return ExperimentResult(
                        rows, status="diverged", reason=f"the dictionary is not finite after {epoch} passes"
                    )
                # The libraries bound an atom's norm by one; an atom that no code uses may be zero, and stays so.
                dictionary = dictionary / np.maximum(np.linalg.norm(dictionary, axis=0), np.finfo(float).tiny)
                found = match_atoms(dictionary, generating)
                rows.append(
                    {
                        "epoch": epoch,
                        "seconds": seconds,
                        "dictionary_error": found.error,
                        "relative_error": found.relative_error,
                    }
                )
                progress(epoch, self.epochs, f"relative error {found.relative_error:.4g}")
        ends = {"start_": rows[0], "": rows[-1]}
        names = "dictionary_error", "relative_error"
        summary = {f"{prefix}{name}": row[name] for prefix, row in ends.items() for name in names}
        summary |= {"method": ", ".join(self.distributions), "seconds": seconds, "epochs": self.epochs}
        return ExperimentResult(rows, summary, {"dictionary": dictionary})

    def fingerprint(self) -> str:
        from .. import peers

        return f"{make_dataset(self.dataset).fingerprint()} {peers.versions(*self.distributions)}"


@dataclass(frozen=True)
class Sklearn(Baseline):
    """scikit-learn's online dictionary learning: exact lasso codes of a batch, then block coordinate descent on the atoms.

    Parameters
    ----------
    batch : int
        Samples per step, >= 1. An atom that no code of the *first* batch uses is replaced by a sample, and the start is lost
        for it: take so many that each atom is used.

    References
    ----------
    Mairal, Bach, Ponce and Sapiro, "Online dictionary learning for sparse coding", ICML 2009.
    """

    distributions: ClassVar[tuple[str, ...]] = ("scikit-learn",)

    batch: int = 500

    def passes(self, observations: Array, dictionary: Array, penalty: float) -> Iterator[Array]:
        from sklearn.decomposition import MiniBatchDictionaryLearning

        check_integer("batch", self.batch, 1)
        # Its alpha is this package's penalty: it divides by the number of features what its lasso multiplies by that.
        model = MiniBatchDictionaryLearning(
            dictionary.shape[1], alpha=penalty, fit_algorithm="cd", dict_init=dictionary.T, random_state=self.seed
        )
        epoch = 0
        while True:
            order = generator(self.seed, f"baseline order {epoch}").permutation(len(observations))
            for first in range(0, len(order), self.batch):
                model.partial_fit(observations[order[first : first + self.batch]])
            yield model.components_.T
            epoch += 1


@dataclass(frozen=True)
class Spams(Baseline):
    """SPAMS: the same online algorithm, by its authors, with lasso codes by LARS.

    The order of samples is its own, and the same whatever the seed.

    Parameters
    ----------
    batch : int
        Samples per step, >= 1; a pass takes as many whole batches as there are.

    References
    ----------
    Mairal, Bach, Ponce and Sapiro, "Online dictionary learning for sparse coding", ICML 2009.
    """

    distributions: ClassVar[tuple[str, ...]] = ("spams-bin",)

    batch: int = 500

    def passes(self, observations: Array, dictionary: Array, penalty: float) -> Iterator[Array]:
        import numpy as np

        from .. import peers

        check_integer("batch", self.batch, 1)
        train = peers.require("spams", "baselines").trainDL
        columns, model = np.asfortranarray(observations.T), None
        while True:
            # clean=False: it would replace atoms that are alike by samples.
            dictionary, model = train(
                columns, return_model=True, model=model, D=np.asfortranarray(dictionary), lambda1=penalty,
                batchsize=self.batch, iter=max(len(observations) // self.batch, 1), numThreads=1, clean=False, verbose=False,
            )  # fmt: skip
            yield dictionary


@dataclass(frozen=True)
class Sporco(Baseline):
    """SPORCO's batch dictionary learning: ADMM steps for codes and atoms in turn, one of each per pass over all samples.

    In the first passes the codes are far from settled, and so the atoms leave a good start before they return.

    References
    ----------
    Wohlberg, "SPORCO: A Python package for standard and convolutional sparse representations", SciPy 2017.
    """

    distributions: ClassVar[tuple[str, ...]] = ("sporco",)

    def passes(self, observations: Array, dictionary: Array, penalty: float) -> Iterator[Array]:
        from .. import peers

        learning = peers.require("sporco.dictlrn.bpdndl", "baselines").BPDNDictLearn
        learner = learning(dictionary, observations.T, penalty, learning.Options({"MaxMainIter": 1, "Verbose": False}))
        while True:
            with peers.quiet():
                learner.solve()
            yield learner.getdict()
