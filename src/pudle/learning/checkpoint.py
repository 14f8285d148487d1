"""The files that a training keeps in its folder, and how it continues from them."""

import dataclasses
import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import names
from ..errors import InvalidArgument
from ..files import lies_at, opened, readable, write_atomically
from .run import LearningRun

CHECKPOINT, HISTORY_FILE, DICTIONARY_FILE = "checkpoint.pt", "history.csv", "dictionary.npy"
#: Version of the checkpoint's content.
SCHEMA = 4


@dataclass(eq=False)
class Checkpoint:
    """The folder of one training."""

    folder: Path
    run: LearningRun

    @functools.cached_property
    def configuration(self) -> dict[str, Any]:
        """All that the steps depend on, so that a checkpoint is never continued as another
        training.
        """
        configuration = self.run.learner.describe()
        if not self.run.learner.schedule.needs_epochs:
            del configuration["epochs"]
        del configuration["fresh"]
        if source := self.run.source:
            configuration["source"] = names.text(source) if hasattr(source, "name") else str(source)
        digest = hashlib.sha256()
        for field in dataclasses.fields(self.run.problem):
            name, value = field.name, getattr(self.run.problem, field.name)
            if isinstance(value, Tensor):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().numpy().tobytes())
            else:
                configuration[name] = value
        return configuration | {"data": digest.hexdigest()[:16]}

    def save(self) -> None:
        """Write the checkpoint, the history and the dictionary, each whole or not at all."""
        content, dictionary = io.BytesIO(), io.BytesIO()
        torch.save({"configuration": self.configuration, **self.run.state()}, content)
        np.save(dictionary, self.run.dictionary.cpu().numpy())
        payload = content.getvalue()
        for name, written in {
            CHECKPOINT: _header(payload) + payload,
            HISTORY_FILE: pd.DataFrame(self.run.rows).to_csv(index=False),
            DICTIONARY_FILE: dictionary.getvalue(),
        }.items():
            write_atomically(self.folder / name, written)

    def begin(self, *, resume: bool) -> None:
        """Continue from the checkpoint, or refuse a folder that holds one.

        To continue, one that is missing, damaged, or of other options or data is refused.
        """
        path = self.folder / CHECKPOINT
        if lies_at(path) is not resume:
            raise InvalidArgument(
                f"{self.folder} holds no checkpoint to resume: start without resuming first"
                if resume
                else f"{self.folder} holds a training already: resume it, or give another folder"
            )
        if not resume:
            return
        remedy = "delete it and start again"
        with readable(path, remedy), opened(path) as file:
            first, _, payload = file.read().partition(b"\n")
            if first + b"\n" != _header(payload):
                raise OSError("it is damaged or written by another version of the suite")
            device = self.run.theta.device
            content = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
            stored, now = dict(content["configuration"]), self.configuration
            differing = [name for name in sorted(stored | now) if stored.get(name) != now.get(name)]
        if differing:
            name = differing[0]
            difference = (
                "other data or another start"
                if name == "data"
                else f"{name}={stored.get(name)!r}, not {now.get(name)!r}"
            )
            raise InvalidArgument(
                f"{self.folder} holds a training with {difference}: resume it with the options"
                " and data it was started with, or give another folder"
            )
        with readable(path, remedy):
            self.run.set_state(content)


def _header(payload: bytes) -> bytes:
    """Return the first line of a checkpoint: its version, and a digest that vouches for every field
    of its content.
    """
    return f"pudle checkpoint {SCHEMA} {hashlib.sha256(payload).hexdigest()}\n".encode()
