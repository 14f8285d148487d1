"""Benchmarks of hypergradients: gradient estimators for bilevel losses that depend on an unrolled
inner algorithm.

The public names are imported on first use, so that ``import pudle`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: The public names of each module.
_NAMES = {
    "advising.advise": "advise",
    "advising.advice": "Advice",
    "algorithms": "Algorithm Fista Ista Iteration Noodl Trajectory",
    "batches": "MeanEstimate mean_estimate split",
    "data": "ConvolutionalDataset Dataset Draw SparseCodingDataset",
    "data.tables": "sparse_coding",
    "errors": "InvalidArgument MissingDependency PudleError SpecError UnsupportedProblem",
    "estimator": "Estimate GradientEstimator",
    "learning.learner": "Learner LearningWarning Training",
    "learning.matching": "Matching match_atoms",
    "learning.sklearn_wrapper": "UnrolledDictionaryLearning",
    "learning.training": "LearningExperiment",
    "measuring.experiment": "Experiment ExperimentResult",
    "measuring.scoring": "Score score",
    "problems": (
        "ConvolutionalSparseCoding FixedPoint PenaltySelection Problem Ridge SparseCoding "
        "ThresholdedConvolutionalSparseCoding"
    ),
    "reports.notebook.benchmark": "benchmark",
    "reports.notebook.results": "BenchmarkResults",
    "names": (
        "list_datasets list_estimators list_experiments make_algorithm make_dataset make_estimator"
        " make_optimizer make_schedule"
    ),
    "references.certified": "Certificate Reference reference",
}
_HOME_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOME_OF, "__version__"]

if TYPE_CHECKING:
    from .advising.advice import Advice
    from .advising.advise import advise
    from .algorithms import Algorithm, Fista, Ista, Iteration, Noodl, Trajectory
    from .batches import MeanEstimate, mean_estimate, split
    from .data import ConvolutionalDataset, Dataset, Draw, SparseCodingDataset
    from .data.tables import sparse_coding
    from .errors import (
        InvalidArgument,
        MissingDependency,
        PudleError,
        SpecError,
        UnsupportedProblem,
    )
    from .estimator import Estimate, GradientEstimator
    from .learning.learner import Learner, LearningWarning, Training
    from .learning.matching import Matching, match_atoms
    from .learning.optimizers import Optimizer, Schedule
    from .learning.sklearn_wrapper import UnrolledDictionaryLearning
    from .learning.training import LearningExperiment
    from .measuring.experiment import Experiment, ExperimentResult
    from .measuring.scoring import Score, score
    from .problems import (
        ConvolutionalSparseCoding,
        FixedPoint,
        PenaltySelection,
        Problem,
        Ridge,
        SparseCoding,
        ThresholdedConvolutionalSparseCoding,
    )
    from .references.certified import Certificate, Reference, reference
    from .reports.notebook.benchmark import benchmark
    from .reports.notebook.results import BenchmarkResults

    # `names` returns what the entry points hold; here is what that is.
    def list_estimators() -> dict[str, type[GradientEstimator]]: ...
    def list_datasets() -> dict[str, type[Dataset]]: ...
    def list_experiments() -> dict[str, Experiment]: ...
    def make_algorithm(spec: str) -> Algorithm: ...
    def make_dataset(spec: str) -> Dataset: ...
    def make_estimator(spec: str) -> GradientEstimator: ...
    def make_optimizer(spec: str) -> Optimizer: ...
    def make_schedule(spec: str) -> Schedule: ...


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pudle' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
