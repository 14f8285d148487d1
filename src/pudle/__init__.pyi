"""The public names of `pudle`, which are imported on first use, and their types."""

import typing

from . import adapt as adapt
from . import testing as testing
from .advising.advice import Advice as Advice
from .advising.advise import advise as advise
from .algorithms import Accelerated as Accelerated
from .algorithms import ActiveSet as ActiveSet
from .algorithms import Algorithm as Algorithm
from .algorithms import CoordinateDescent as CoordinateDescent
from .algorithms import Fista as Fista
from .algorithms import GradientDescent as GradientDescent
from .algorithms import Ista as Ista
from .algorithms import Iteration as Iteration
from .algorithms import NewtonCg as NewtonCg
from .algorithms import Noodl as Noodl
from .algorithms import Trajectory as Trajectory
from .auditing.audit import Audit as Audit
from .auditing.audit import audit as audit
from .data import ConvolutionalDataset as ConvolutionalDataset
from .data import Dataset as Dataset
from .data import Draw as Draw
from .data import SparseCodingDataset as SparseCodingDataset
from .data.tables import sparse_coding as sparse_coding
from .errors import InvalidArgument as InvalidArgument
from .errors import MissingDependency as MissingDependency
from .errors import PudleError as PudleError
from .errors import SpecError as SpecError
from .errors import UnsupportedProblem as UnsupportedProblem
from .estimator import Estimate as Estimate
from .estimator import GradientEstimator as GradientEstimator
from .estimator import MeanEstimate as MeanEstimate
from .estimator import mean_estimate as mean_estimate
from .estimator import split as split
from .learning.learner import Learner as Learner
from .learning.learner import LearningWarning as LearningWarning
from .learning.learner import Training as Training
from .learning.learning_experiment import GradientError as GradientError
from .learning.learning_experiment import LearningExperiment as LearningExperiment
from .learning.matching import Matching as Matching
from .learning.matching import match_atoms as match_atoms
from .learning.options import TrainingOptions as TrainingOptions
from .learning.run import Measure as Measure
from .learning.sklearn_wrapper import UnrolledDictionaryLearning as UnrolledDictionaryLearning
from .measuring.experiment import Experiment as Experiment
from .measuring.experiment import ExperimentResult as ExperimentResult
from .measuring.scoring import Score as Score
from .measuring.scoring import score as score
from .problems import Constants as Constants
from .problems import ConvolutionalSparseCoding as ConvolutionalSparseCoding
from .problems import FixedPoint as FixedPoint
from .problems import PenaltySelection as PenaltySelection
from .problems import Problem as Problem
from .problems import Ridge as Ridge
from .problems import SparseCoding as SparseCoding
from .problems import StronglyConvex as StronglyConvex
from .problems import ThresholdedConvolutionalSparseCoding as ThresholdedConvolutionalSparseCoding
from .references.certified import reference as reference
from .references.records import Certificate as Certificate
from .references.records import Reference as Reference
from .reports.notebook.benchmark import BenchmarkResults as BenchmarkResults
from .reports.notebook.benchmark import benchmark as benchmark

__version__: str

if typing.TYPE_CHECKING:
    def list_datasets() -> dict[str, type[Dataset]]: ...
    def list_estimators() -> dict[str, type[GradientEstimator]]: ...
    def list_experiments() -> dict[str, Experiment]: ...
    def make_algorithm(spec: str) -> Algorithm: ...
    def make_dataset(spec: str) -> Dataset: ...
    def make_estimator(spec: str) -> GradientEstimator: ...
else:
    from .names import list_datasets as list_datasets
    from .names import list_estimators as list_estimators
    from .names import list_experiments as list_experiments
    from .names import make_algorithm as make_algorithm
    from .names import make_dataset as make_dataset
    from .names import make_estimator as make_estimator
