"""A training as plain values: what `pudle learn` takes as options, and what named settings are records of."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InvalidArgument
from ..measuring.experiment import Experiment, ExperimentResult, ProgressCallback, silent
from ..registry import list_experiments, make_dataset
from ..validation import check_choice, check_integer

if TYPE_CHECKING:
    from .learner import DictionaryProblem, Learner, Training


def learning_experiments() -> dict[str, LearningExperiment]:
    """Return the named experiments that `pudle learn --experiment NAME` can start from."""
    return {name: found for name, found in list_experiments().items() if isinstance(found, LearningExperiment)}


@dataclass(frozen=True)
class LearningExperiment(Experiment):
    """All that a training depends on, as specs and numbers.

    Attributes
    ----------
    dataset : str
        Spec of the dataset, without its seed; its dictionary is where the learning starts, unless `start` is given.
    loss : str
        Outer loss.
    estimator, algorithm, depth, optimizer, schedule, epochs, batch, record_every, chunk
        As in `pudle.Learner`.
    seed : int
        Of the dataset and of the order of its samples.
    dtype : {"float64", "float32"}
        Precision.
    start : str, optional
        File (.npy) of the dictionary to start at, such as the ``dictionary.npy`` of an earlier training.
    """

    kind: ClassVar[str] = "learning"

    dataset: str
    loss: str = "lasso"
    estimator: str = "backprop"
    algorithm: str = "ista"
    depth: int = 50
    optimizer: str = "adam"
    schedule: str = "constant"
    epochs: int = 100
    batch: int | None = None
    seed: int = 0
    record_every: int | None = None
    chunk: int | None = None
    dtype: str = "float64"
    start: str | None = None

    def learner(self) -> Learner:
        """Return the learner."""
        from .learner import Learner  # imports torch, which help texts do without

        options = {field.name for field in dataclasses.fields(Learner)}
        return Learner(**{name: value for name, value in dataclasses.asdict(self).items() if name in options})

    def problem(self, device: str = "cpu") -> DictionaryProblem:
        """Draw the data, on a device.

        Raises
        ------
        InvalidArgument
            If the dataset has no such loss, the problem it draws has no dictionary, or `start` does not hold one of its
            shape.
        """
        from ..measuring.case import DTYPES
        from .learner import DictionaryProblem

        check_integer("seed", self.seed, 0)
        check_choice("dtype", self.dtype, DTYPES)
        made: Any = make_dataset(self.dataset)
        check_choice("loss", self.loss, made.losses)
        problem = dataclasses.replace(made, seed=self.seed).problem(self.loss, dtype=DTYPES[self.dtype], device=device)
        if not isinstance(problem, DictionaryProblem):
            raise InvalidArgument(f"dataset {self.dataset!r} has no dictionary to learn: give one such as sparse_gaussian")
        return problem if self.start is None else _started(problem, self.start)

    def train(
        self,
        problem: DictionaryProblem,
        folder: Path,
        device: str = "cpu",
        progress: ProgressCallback = silent,
        **options: Any,
    ) -> tuple[Training, str]:
        """Learn from a problem, and return the training with what is to be said of it.

        A training that the folder holds is resumed. On the CPU, seconds are those of the process, so that a machine busy
        with other things changes nothing.

        Parameters
        ----------
        problem : SparseCoding or ConvolutionalSparseCoding
            On the device.
        folder, device, progress
            As in `run`.
        **options
            Further ones of `Learner.fit`.

        Returns
        -------
        tuple of Training and str
            The text is the training's reason, or else its warnings; empty where there is neither.
        """
        from .learner import CHECKPOINT, HISTORY, LearningWarning

        def show(done: int, total: int, row: dict[str, float]) -> None:
            # The loss, and what a monitor adds.
            told = (f"{name} {value:.4g}" for name, value in row.items() if name == "loss" or name not in HISTORY)
            progress(done, total, ", ".join(told))

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LearningWarning)
            training = self.learner().fit(
                problem,
                folder=folder,
                resume=(folder / CHECKPOINT).exists(),
                progress=show,
                clock=time.process_time if device == "cpu" else time.perf_counter,
                **options,
            )
        told = [str(found.message) for found in caught if isinstance(found.message, LearningWarning)]
        return training, training.reason or "; ".join(told)

    def run(self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent) -> ExperimentResult:
        """Learn the dictionary.

        Rows are those of `Training.history`. The summary holds the first and last of ``dictionary_error``,
        ``relative_error`` and ``loss`` (as ``start_...`` and by their name), and ``support_recovery``, ``steps`` and
        ``seconds`` (on the CPU of the process, so that a busy machine changes nothing). The array ``dictionary`` is the
        learned one. The reason holds the warnings, if there were any.
        """
        training, reason = self.train(self.problem(device), folder, device, progress)
        first, last = training.history.iloc[0], training.history.iloc[-1]
        losses = training.history["loss"].dropna()
        return ExperimentResult(
            rows=training.history.to_dict("records"),
            summary={
                "start_dictionary_error": first.dictionary_error,
                "dictionary_error": last.dictionary_error,
                "start_relative_error": first.relative_error,
                "relative_error": last.relative_error,
                "start_loss": losses.iloc[0] if len(losses) else float("nan"),
                "loss": losses.iloc[-1] if len(losses) else float("nan"),
                "support_recovery": last.support_recovery,
                "steps": training.steps,
                "seconds": last.seconds,
            },
            arrays={"dictionary": training.dictionary.cpu().numpy()},
            status="diverged" if training.status == "diverged" else "ok",
            reason=reason,
        )

    def fingerprint(self) -> str:
        data = make_dataset(self.dataset).fingerprint()
        return data if self.start is None else f"{data} {hashlib.sha256(_read(self.start)).hexdigest()}"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as found:
        raise InvalidArgument(f"start={path!r} cannot be read: {found.strerror}") from None


def _started(problem: DictionaryProblem, path: str) -> DictionaryProblem:
    """Return the problem with the dictionary of a file in place of its own."""
    import numpy as np
    import torch

    content = io.BytesIO(_read(path))
    try:
        start = np.lib.format.read_array(content, allow_pickle=False)
    except (ValueError, tokenize.TokenError):
        raise InvalidArgument(f"start={path!r} is not a whole array of numbers (.npy)") from None
    wanted = tuple(problem.dictionary.shape)
    if start.shape != wanted:
        raise InvalidArgument(f"start={path!r} has shape {start.shape}, and the dataset's dictionary {wanted}")
    if start.dtype.kind not in "fiu":
        raise InvalidArgument(f"start={path!r} holds {start.dtype}, not real numbers")
    if not np.isfinite(start).all():
        raise InvalidArgument(f"start={path!r} holds entries that are not finite")
    # In this machine's own order of bytes, which torch asks for.
    return dataclasses.replace(problem, dictionary=torch.as_tensor(start.astype(np.float64)).to(problem.dictionary))
