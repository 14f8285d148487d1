"""`pudle learn`: a dictionary learned with one estimator, algorithm and optimizer."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import TimeRemainingColumn

from .. import specs
from ..errors import InvalidArgument, PudleError
from ..files import write_atomically
from ..terminal import check_device, progress_bar
from .training import LearningExperiment, learning_experiments

if TYPE_CHECKING:
    from .learner import Training

#: What the folder holds beside the files of the learner: the options and how it ended.
SUMMARY = "learning.json"


@click.command("learn")
@click.option("--dataset", metavar="SPEC", help="Where observations and the first dictionary come from.")
@click.option("--setting", metavar="NAME", help="A named setting; options beside it replace its own.")
@click.option("--settings", "listing", is_flag=True, help="List the named settings and leave.")
@click.option("--loss", help="Outer loss [default: lasso].")
@click.option("--estimator", metavar="SPEC", help="Of the gradient [default: backprop].")
@click.option("--algorithm", metavar="SPEC", help="What is unrolled [default: ista].")
@click.option("--depth", type=int, help="Layers [default: 50].")
@click.option("--optimizer", metavar="SPEC", help="sgd, momentum, adam, adamw or lbfgs, with arguments [default: adam].")
@click.option(
    "--schedule", metavar="SPEC", help="Of the learning rate, epoch by epoch: constant, step or cosine [default: constant]."
)
@click.option("--epochs", type=int, help="Passes over the data [default: 100].")
@click.option("--batch", type=int, help="Samples per step [default: all of them].")
@click.option("--seed", type=int, help="Of the data and of their order [default: 0].")
@click.option("--record-every", type=int, help="Steps between rows of the history [default: an epoch's].")
@click.option("--chunk", type=int, help="Samples in memory at once [default: the whole batch].")
@click.option("--dtype", type=click.Choice(["float64", "float32"]), help="Precision [default: float64].")
@click.option(
    "--start", metavar="FILE", help="Dictionary (.npy) to start at, such as another training's [default: the dataset's]."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Where results go; needed to learn."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in FOLDER.")
def learn_command(
    setting: str | None, listing: bool, device: str, out: Path | None, resume: bool, **options: str | int | None
) -> None:
    """Learn a dictionary.

    FOLDER receives the history (history.csv), the dictionary (dictionary.npy), the options (learning.json) and a checkpoint
    that is renewed on the way. A training that was killed goes on with the same command and --resume, and ends on the CPU
    with the very bits of one that was not.

    \b
    Examples:
      pudle learn --dataset 'sparse_gaussian(perturbation=0.1)' --algorithm 'ista(step=0.2)' --loss reconstruction --out one
      pudle learn --dataset digits --batch 100 --optimizer 'adam(learning_rate=0.01)' --estimator alternating --out two
      pudle learn --setting 2a-small-T25-backprop-lasso --epochs 20 --out three
    """
    if listing:
        for name, known in learning_experiments().items():
            click.echo(f"{name}: {', '.join(f'{key}={value}' for key, value in _changed(known).items())}")
        return
    chosen = _choose(setting, {name: value for name, value in options.items() if value is not None})
    if out is None:
        raise InvalidArgument("--out is missing: name the folder that the results go to")
    training = _learn(chosen, device, out, resume)
    click.echo(f"{_summary(chosen, training)}; results in {out}")
    if training.status == "diverged":
        raise PudleError(
            f"{training.reason}; the history up to there is in {out}, and --resume leads no further: start in another folder"
        )


def _choose(name: str | None, given: dict[str, Any]) -> LearningExperiment:
    """Return the named setting, or a plain one, with what was given in place of its own values."""
    if name is None:
        if "dataset" not in given:
            raise InvalidArgument("--dataset is missing: name one, e.g. --dataset sparse_gaussian, or give --setting NAME")
        return LearningExperiment(**given)
    known = learning_experiments()
    if name not in known:
        raise InvalidArgument(
            f"unknown setting {name!r}{specs.nearest(name, known)}: `pudle learn --settings` lists all {len(known)} of them"
        )
    return dataclasses.replace(known[name], **given)


def _learn(chosen: LearningExperiment, device: str, out: Path, resume: bool) -> Training:
    learner, problem = chosen.learner(), chosen.problem(check_device(device))
    with (
        warnings.catch_warnings(record=True) as caught,
        progress_bar(TimeRemainingColumn()) as bar,
    ):
        warnings.simplefilter("always")
        task = bar.add_task("learning", total=None)

        def show(done: int, total: int, row: dict[str, float]) -> None:
            bar.update(task, completed=done, total=total, description=f"loss {row['loss']:.4g}")

        training = learner.fit(problem, folder=out, resume=resume, progress=show)
    for warning in caught:
        # A divergence is told as the error it ends in.
        if not training.reason or training.status != "diverged" or training.reason not in str(warning.message):
            click.echo(f"pudle: warning: {warning.message}", err=True)
    content = {
        "setting": dataclasses.asdict(chosen),
        "device": device,
        "status": training.status,
        "reason": training.reason,
        "steps": training.steps,
    }
    write_atomically(out / SUMMARY, json.dumps(content, indent=1))
    return training


def _changed(setting: LearningExperiment) -> dict[str, Any]:
    """Return the values that differ from their defaults."""
    return {
        field.name: getattr(setting, field.name)
        for field in dataclasses.fields(setting)
        if getattr(setting, field.name) != field.default
    }


def _summary(chosen: LearningExperiment, training: Training) -> str:
    first, last = training.history.iloc[0], training.history.iloc[-1]
    parts = [f"{chosen.estimator} with {chosen.optimizer}: {training.steps} steps in {last.seconds:.1f} s"]
    losses = training.history.loss.dropna()
    if len(losses):
        parts.append(f"loss {losses.iloc[0]:.4g} -> {losses.iloc[-1]:.4g}")
    if first.dictionary_error == first.dictionary_error:
        parts.append(
            f"dictionary error {first.dictionary_error:.4g} -> {last.dictionary_error:.4g} "
            f"(relative {last.relative_error:.3g})"
        )
    return ", ".join(parts)
