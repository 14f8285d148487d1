"""Trainings whose thresholds decay from layer to layer, the more the longer they go on."""

import math
from dataclasses import dataclass, fields, replace

from ..algorithms import Algorithm
from ..algorithms.thresholding import Decaying, Soft
from ..errors import InvalidArgument
from ..problems.l1 import DictionaryProblem
from ..validation import check_integer, check_positive
from .images import Images
from .learner import Learner
from .learning_experiment import LearningExperiment
from .options import TrainingOptions
from .run import Measure


@dataclass(frozen=True)
class AnnealedLearner(Learner):
    """A learner whose thresholding rule follows the step: soft at first, then with the decay ``1 -
    lowered_by * n`` per layer after n times `lowered_every` steps.

    Parameters
    ----------
    lowered_by : float
        What the decay per layer is lowered by, in (0, 1).
    lowered_every : int
        Steps after which it is lowered.
    """

    lowered_by: float = 0.005
    lowered_every: int = 100

    def decay_at(self, step: int) -> float:
        """Return the decay per layer in a step, the first being 0; it is 1 in the first
        `lowered_every` - 1 steps.
        """
        return 1 - self.lowered_by * ((step + 1) // self.lowered_every)

    def algorithm_at(self, step: int) -> Algorithm:
        decay = self.decay_at(step)
        rule = Decaying(decay) if decay < 1 else Soft()
        return replace(self.parts.algorithm, thresholding=rule)

    def describe(self) -> dict[str, str | int | bool | None]:
        return super().describe() | {"annealed": f"{self.lowered_by!r} {self.lowered_every}"}


@dataclass(frozen=True)
class AnnealedExperiment(LearningExperiment):
    """Learn a dictionary with thresholds that decay from layer to layer, the more the longer it
    learns: many layers of a strong decay let in so many wrong entries at a first dictionary that
    they learn nothing, and without any the codes stay biased.

    Source: the training script `train_dl_compare_baselines.py` of Tolooshams and Ba, "Stable and
    Interpretable Unrolled Dictionary Learning", TMLR 2022, lowers the decay like this.

    Attributes
    ----------
    lowered_by : float
        What the decay per layer is lowered by, from 1, in (0, 1).
    lowered_every : int
        Steps after which it is lowered.
    """

    lowered_by: float = 0.005
    lowered_every: int = 100

    @property
    def title(self) -> str:
        lowered = f"{self.lowered_by:g} every {self.lowered_every} steps"
        return f"{super().title}, decay lowered by {lowered}"

    def learner(self) -> AnnealedLearner:
        """Return the annealed learner; numbers out of range raise InvalidArgument."""
        return AnnealedLearner(
            **{field.name: getattr(self, field.name) for field in fields(TrainingOptions)},
            lowered_by=check_positive("lowered_by", self.lowered_by),
            lowered_every=check_integer("lowered_every", self.lowered_every, 1),
        )

    def problem(self, device: str = "cpu", **options: Images) -> DictionaryProblem:
        """Draw the problem on a device; InvalidArgument refuses a training that would lower the
        decay to zero.
        """
        problem, learner = super().problem(device, **options), self.learner()
        samples = len(problem.observations)
        last = self.epochs * math.ceil(samples / min(self.batch or samples, samples)) - 1
        if last >= 0 and learner.decay_at(last) <= 0:
            raise InvalidArgument(
                f"lowered_by={self.lowered_by:g} every {self.lowered_every} steps brings the decay"
                f" to {learner.decay_at(last):.3g} in step {last + 1}: it must stay above zero, so"
                " give a smaller lowered_by, a larger lowered_every, or fewer epochs"
            )
        return problem

    def measures(self) -> list[Measure]:
        """Return the measures of every row; InvalidArgument refuses `gradient_error`, for which no
        exact gradient is known here.
        """
        if self.gradient_error is not None:
            raise InvalidArgument(
                "gradient_error needs the minimizer of the lasso, which layers with decaying"
                " thresholds do not lead to: leave it out"
            )
        return super().measures()
