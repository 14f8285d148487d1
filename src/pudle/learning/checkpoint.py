"""The files that a training keeps in its folder, and how it continues from them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import InvalidArgument, UnreadableResult, first_line
from ..files import write_atomically
from .run import LearningRun

CHECKPOINT, HISTORY_FILE, DICTIONARY_FILE = "checkpoint.pt", "history.csv", "dictionary.npy"
#: Version of the checkpoint's content.
SCHEMA = 2


class Checkpoint:
    """The folder of one training."""

    def __init__(self, folder: Path, run: LearningRun) -> None:
        self.folder, self.run = folder, run
        self.path = folder / CHECKPOINT

    @functools.cached_property
    def configuration(self) -> dict[str, Any]:
        """All that the steps depend on, so that a checkpoint is never continued as another training."""
        configuration = self.run.learner.describe()
        if not self.run.learner.schedule.needs_epochs:
            del configuration["epochs"]
        digest = hashlib.sha256()
        for field in dataclasses.fields(self.run.problem):
            value = getattr(self.run.problem, field.name)
            if isinstance(value, Tensor):
                digest.update(f"{field.name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            else:
                configuration[field.name] = value
        return configuration | {"data": digest.hexdigest()[:16]}

    def save(self) -> None:
        """Write the checkpoint, the history and the dictionary, each whole or not at all."""
        content = {"schema": SCHEMA, "configuration": self.configuration, **self.run.state()}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(self.path, buffer.getvalue())
        write_atomically(self.folder / HISTORY_FILE, pd.DataFrame(self.run.rows).to_csv(index=False))
        buffer = io.BytesIO()
        np.save(buffer, self.run.dictionary.cpu().numpy())
        write_atomically(self.folder / DICTIONARY_FILE, buffer.getvalue())

    def restore(self) -> None:
        """Continue from the checkpoint, or refuse one that is missing, damaged, or of other options or data."""
        if not self.path.exists():
            raise InvalidArgument(f"{self.folder} holds no checkpoint to resume: start without resuming first")
        try:
            content = torch.load(self.path, map_location=self.run.theta.device, weights_only=True)
            schema, stored = content["schema"], content["configuration"]
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reason = first_line(error) or type(error).__name__
            raise UnreadableResult(f"{self.path} cannot be read ({reason}): delete it and start again") from None
        if schema != SCHEMA:
            raise UnreadableResult(f"{self.path} was written by another version of the suite: delete it and start again")
        for name in sorted({*stored, *self.configuration}):
            theirs, ours = stored.get(name), self.configuration.get(name)
            if theirs != ours:
                difference = "other data or another start" if name == "data" else f"{name}={theirs!r}, not {ours!r}"
                remedy = "resume it with the options and data it was started with, or give another folder"
                raise InvalidArgument(f"{self.folder} holds a training with {difference}: {remedy}")
        self.run.set_state(content)
