"""The parts that `pudle learn` and `pudle denoise` share: options of a training, named experiments,
a progress bar.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.progress import TimeRemainingColumn

from .. import names
from ..errors import InvalidArgument
from ..measuring.experiment import ProgressCallback, silent
from ..terminal import progress_bar

#: Fields of `LearningExperiment` that are options: keyword arguments of `click.option`, and the
#: help text.
_TRAINING: dict[str, tuple[dict[str, Any], str]] = {
    "loss": ({}, "Outer loss"),
    "estimator": ({"metavar": "SPEC"}, "Gradient estimator, e.g. `truncated(window=20)`"),
    "algorithm": ({"metavar": "SPEC"}, "Unrolled algorithm, e.g. `ista(step=0.2)`"),
    "depth": ({"type": int}, "Number of unrolled layers"),
    "optimizer": (
        {"metavar": "SPEC"},
        "Optimizer: sgd, momentum, adam, adamw or lbfgs, e.g. `adam(learning_rate=1e-3)`",
    ),
    "schedule": (
        {"metavar": "SPEC"},
        "Learning rate by epoch: constant, step or cosine, e.g. `step(every=100)`",
    ),
    "epochs": ({"type": int}, "Passes over the samples"),
    "batch": ({"type": int}, "Samples per step"),
    "seed": ({"type": int}, "Seed of the dataset and of the sample order"),
    "record_every": ({"type": int}, "Steps between rows of the history"),
    "dtype": ({"type": click.Choice(["float64", "float32"])}, "Precision"),
}


def training_options(defaults: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a decorator that adds the options of a training to a command, with `defaults` in their
    help texts.

    The value of an option that is not given is None.
    """
    text = "Start from a named experiment; other options replace its values."
    options = [click.option("--experiment", metavar="NAME", help=text)]
    for name, (arguments, text) in _TRAINING.items():
        shown = f" [default: {defaults[name]}]" if name in defaults else ""
        options.append(
            click.option(f"--{name.replace('_', '-')}", help=f"{text}{shown}.", **arguments)
        )
    devices, folder = click.Choice(["cpu", "cuda"]), click.Path(path_type=Path, file_okay=False)
    options += [
        click.option(
            "--device", type=devices, default="cpu", show_default=True, help="Device to compute on."
        ),
        click.option(
            "--out", type=folder, metavar="FOLDER", required=True, help="Folder for the results."
        ),
        click.option("--resume", is_flag=True, help="Continue from the checkpoint in FOLDER."),
    ]

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def named(kind: str, name: str) -> Any:
    """Return the experiment of that kind and name."""
    known = {
        key: experiment
        for key, experiment in names.list_experiments().items()
        if experiment.kind == kind
    }
    if name not in known:
        nearest = names.nearest(name, known)
        raise InvalidArgument(
            f"unknown experiment {name!r}{nearest}: `pudle list experiments` lists all of them"
        )
    return known[name]


@contextlib.contextmanager
def shown_progress(title: str, *, hidden: bool = False) -> Iterator[ProgressCallback]:
    """Show a progress bar unless it is hidden, and return the callback that moves it."""
    if hidden:
        yield silent
        return
    with progress_bar(TimeRemainingColumn()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, line: bar.update(
            task, completed=done, total=total, description=f"{title}: {line}"
        )
