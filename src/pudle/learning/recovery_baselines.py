"""Dictionary learning of other packages, from the same data and the same start as the learner's.

All of them minimize the mean of ``1/2 |x - D z|^2 + penalty |z|_1`` over codes and over unit atoms,
each in its own way, and none of them unrolls an algorithm.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from .. import peers
from ..errors import UnsupportedProblem
from ..measuring.experiment import Experiment, ExperimentResult, Plain, ProgressCallback, silent
from ..names import make_dataset, spec_field
from ..streams import generator
from ..validation import check_options
from .learning_experiment import LearningExperiment
from .matching import Array, float64_array, match_atoms


@dataclass(frozen=True)
class RecoveryBaseline(Experiment):
    """Dictionary learning of one package, on one thread. It takes minutes at most and cannot be
    resumed.

    `package` is one of `PACKAGES`. `dataset` and `seed` are spec and seed of the dataset, whose
    dictionary is the start; the sample order has the same seed where the package leaves it to the
    caller. `epochs` is the number of passes over the data, >= 0, and `batch` that of samples per
    step, where the package has such.
    """

    kind: ClassVar[str] = "baseline"

    package: str
    dataset: str = spec_field("datasets")
    epochs: int = 10
    seed: int = 0
    batch: int = 500

    def run(
        self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent
    ) -> ExperimentResult:
        """Learn the dictionary by the package, in one thread; nothing is written into the folder.

        One row at the start and one per pass: ``epoch``, ``seconds`` (of the processor, without the
        matching), ``dictionary_error`` and ``relative_error`` (distance to the generating
        dictionary, atoms of unit norm and matched by optimal assignment). The summary holds
        ``method``, the first and last of both errors and ``seconds``. The array ``dictionary`` is
        the learned one. `UnsupportedProblem` is raised on another device than the CPU, and for a
        dataset without a generating dense dictionary.
        """
        problem = LearningExperiment(self.dataset, seed=self.seed).problem()
        generating, penalty = problem.generating_dictionary, problem.penalty
        dense = problem.dictionary.ndim == 2
        if generating is None or not isinstance(penalty, float) or not dense or device != "cpu":
            raise UnsupportedProblem(
                f"{self.package} recovers generating dense dictionaries, with one penalty,"
                f" on the CPU: not {self.dataset!r} on {device}; give a dataset such as"
                " sparse_gaussian"
            )
        check_options(self, least={"epochs": 0})
        rows: list[dict[str, float]] = []
        dictionary, seconds = float64_array(problem.dictionary), 0.0
        passes = PACKAGES[self.package](
            self, float64_array(problem.observations), dictionary.copy(), penalty
        )
        with threadpool_limits(1):
            for epoch in range(self.epochs + 1):
                if epoch:
                    start = time.process_time()
                    dictionary = np.array(next(passes))
                    seconds += time.process_time() - start
                # The packages bound an atom's norm by one; an atom that no code uses may be zero,
                # and stays so.
                norms = np.linalg.norm(dictionary, axis=0)
                dictionary = dictionary / np.maximum(norms, np.finfo(float).tiny)
                matching = match_atoms(dictionary, generating)
                rows.append({"epoch": epoch, "seconds": seconds, **matching.errors})
                progress(epoch, self.epochs, f"relative error {matching.relative_error:.4g}")
        summary: dict[str, Plain] = {f"start_{name}": rows[0][name] for name in matching.errors}
        summary |= {**matching.errors, "seconds": seconds}
        summary["method"] = self.package
        return ExperimentResult(rows, summary, {"dictionary": dictionary})

    def fingerprint(self) -> str:
        return f"{make_dataset(self.dataset).fingerprint()} {peers.versions(self.package)}"


def _sklearn(
    baseline: RecoveryBaseline, observations: Array, dictionary: Array, penalty: float
) -> Iterator[Array]:
    """Learn by scikit-learn's online dictionary learning, exact lasso codes of a batch, then block
    coordinate descent on the atoms; yield the dictionary after each pass, without end.

    The package replaces an atom that no code of the *first* batch uses by a sample, so that its
    start is lost: choose a `batch` so large that it uses every atom. The order of the samples is
    drawn anew in each pass from a stream of the baseline's seed.

    Source: Mairal, Bach, Ponce and Sapiro, "Online dictionary learning for sparse coding", ICML
    2009.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning

    # Its alpha is this package's penalty: it divides by the number of features, and its lasso
    # multiplies by that.
    model = MiniBatchDictionaryLearning(
        dictionary.shape[1],
        alpha=penalty,
        fit_algorithm="cd",
        dict_init=dictionary.T,
        random_state=baseline.seed,
    )
    for epoch in itertools.count():
        random = generator(baseline.seed, f"baseline order {epoch}")
        order = random.permutation(len(observations))
        for first in range(0, len(order), baseline.batch):
            model.partial_fit(observations[order[first : first + baseline.batch]])
        yield model.components_.T


def _spams(
    baseline: RecoveryBaseline, observations: Array, dictionary: Array, penalty: float
) -> Iterator[Array]:
    """Learn by SPAMS, the same online algorithm, by its authors, with lasso codes by LARS, in a
    sample order of its own; yield the dictionary after each pass, without end.

    A pass takes as many whole batches of `batch` samples as the data has. MissingDependency says
    that the package is not installed.
    """
    train = peers.require("spams", "baselines").trainDL
    columns, model = np.asfortranarray(observations.T), None
    while True:
        # clean=False: it would replace atoms that are alike by samples.
        dictionary, model = train(
            columns,
            return_model=True,
            model=model,
            D=np.asfortranarray(dictionary),
            lambda1=penalty,
            batchsize=baseline.batch,
            iter=max(len(observations) // baseline.batch, 1),
            numThreads=1,
            clean=False,
            verbose=False,
        )
        yield dictionary


#: By distribution: functions that yield the dictionary (m, p) after each pass over observations
#: (n, m), without end, from a first dictionary on.
PACKAGES = {"scikit-learn": _sklearn, "spams-bin": _spams}
