"""Dictionary recovery: how close a learned dictionary comes to the one that generated the data.

Nothing here is a benchmark to asv, which takes only what is named after what it measures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from pudle.errors import InvalidArgument
from pudle.learning_setting import LearningSetting
from pudle.registry import list_settings
from pudle.specs import nearest


def named(name: str) -> LearningSetting:
    """Return a named setting."""
    known = list_settings()
    if name not in known:
        raise InvalidArgument(f"unknown setting {name!r}{nearest(name, known)}: known are {', '.join(known)}")
    return known[name]


def recover(name: str, *, folder: Path | None = None, device: str = "cpu", **changes: Any) -> pd.DataFrame:
    """Learn a dictionary in a named setting and return the history, with what it belongs to in columns.

    Parameters
    ----------
    name : str
        Of the setting.
    folder : path, optional
        Where the training is kept, so that it can be resumed; it is resumed where one is there.
    device : str
    **changes
        Values in place of the setting's, such as ``epochs=20``.

    Returns
    -------
    DataFrame
        Columns of `pudle.Training.history`, and ``setting``, ``estimator``, ``algorithm``, ``loss_name``, ``depth``,
        ``seed``, ``status`` and ``reason``.
    """
    setting = dataclasses.replace(named(name), **changes)
    from pudle.learning import CHECKPOINT  # imports torch, which a list of settings need not

    resume = folder is not None and (folder / CHECKPOINT).exists()
    training = setting.learner().fit(setting.problem(device), folder=folder, resume=resume)
    return training.history.assign(
        setting=name,
        estimator=setting.estimator,
        algorithm=setting.algorithm,
        loss_name=setting.loss,
        depth=setting.depth,
        seed=setting.seed,
        status=training.status,
        reason=training.reason,
    )


def final(histories: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per training: its end, and the dictionary error it started from."""
    rows = []
    for history in histories:
        last = history.iloc[-1]
        rows.append(last.to_dict() | {"start_error": history.dictionary_error.iloc[0]})
    return pd.DataFrame(rows)
