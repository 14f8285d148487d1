"""The files that a training keeps in its folder, from which it continues: the checkpoint, the
history and the dictionary.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from ..errors import InvalidArgument
from ..files import lies_at, open_regular, readable, write_atomically
from .run import Counts, LearningRun

CHECKPOINT, HISTORY_FILE, DICTIONARY_FILE = "checkpoint.pt", "history.csv", "dictionary.npy"
#: Version of the checkpoint's content.
SCHEMA = 6


def _restore(run: LearningRun, stored: Mapping[str, Any]) -> None:
    """Set the run to what `save` stored, in place: counts, history, parameter, optimizer, schedule
    and codes; whatever else it is raises an error.
    """
    run.counts = msgspec.convert({name: stored[name] for name in Counts.__struct_fields__}, Counts)
    run.theta.data.copy_(stored["theta"])
    if run.codes is not None:
        places, values = stored["codes"]
        run.codes.zero_()[places] = values
    run.optimizer.load_state_dict(stored["optimizer"])
    run.schedule.load_state_dict(stored["schedule"])
    run.evaluated = run.counts.step > 0


def save(run: LearningRun, folder: Path) -> None:
    """Write the checkpoint, the history (CSV) and the dictionary (.npy) of a run into a folder,
    each whole or not at all, in place of those that are there.
    """
    import pandas as pd  # lists of experiments do without

    content, dictionary = io.BytesIO(), io.BytesIO()
    codes = None
    if run.codes is not None:
        # Most are zero. Not as a sparse tensor: some versions of torch warn when they read one.
        places = run.codes.nonzero(as_tuple=True)
        codes = places, run.codes[places]
    state = {
        **msgspec.structs.asdict(run.counts),
        "configuration": run.configuration,
        "theta": run.theta.detach(),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "codes": codes,
    }
    torch.save(state, content)
    np.save(dictionary, run.dictionary.cpu().numpy())
    payload = content.getvalue()
    write_atomically(folder / CHECKPOINT, header(payload) + payload)
    write_atomically(folder / HISTORY_FILE, pd.DataFrame(run.counts.rows).to_csv(index=False))
    write_atomically(folder / DICTIONARY_FILE, dictionary.getvalue())


def begin(run: LearningRun, folder: Path, *, resume: bool) -> None:
    """With `resume`, set the run to the checkpoint in a folder; without, refuse a folder that holds
    one, and change nothing.

    To continue, a checkpoint that is missing, of other options or data, or beyond the number of
    epochs is refused (InvalidArgument), and so is one that is damaged (UnreadableResult). Writes
    nothing.
    """
    path = folder / CHECKPOINT
    if lies_at(path) is not resume:
        raise InvalidArgument(
            f"{folder} holds no checkpoint to resume: start without resuming first"
            if resume
            else f"{folder} holds a training already: resume it, or give another folder"
        )
    if not resume:
        return
    remedy = "delete it and start again"
    with readable(path, remedy), open_regular(path) as file:
        first, _, payload = file.read().partition(b"\n")
        if first + b"\n" != header(payload):
            raise OSError("it is damaged or written by another version of the suite")
        content = torch.load(io.BytesIO(payload), run.theta.device, weights_only=True)
        stored, current = dict(content["configuration"]), run.configuration
    for name in sorted(stored | current):
        if stored.get(name) != current.get(name):
            difference = (
                "other data or another start"
                if name == "data"
                else f"{name}={stored.get(name)!r}, not {current.get(name)!r}"
            )
            raise InvalidArgument(
                f"{folder} holds a training with {difference}: resume it with the options"
                " and data it was started with, or give another folder"
            )
    with readable(path, remedy):
        _restore(run, content)
    if run.counts.step > run.total:
        raise InvalidArgument(
            f"{folder} holds {run.counts.step} steps, more than the {run.total} of"
            f" epochs={run.options.epochs}: give more epochs, or another folder"
        )


def header(payload: bytes) -> bytes:
    """Return the first line of a checkpoint: its version, and a digest that vouches for every field
    of its content.
    """
    return f"pudle checkpoint {SCHEMA} {hashlib.sha256(payload).hexdigest()}\n".encode()
