"""`pudle learn`: learn a dictionary with one estimator, algorithm and optimizer."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidArgument, PudleError
from ..files import write_atomically
from ..terminal import check_device
from ..text import count
from .command_options import named, shown_progress, training_options
from .training import LearningExperiment

if TYPE_CHECKING:
    from .learner import Training
    from .processes import Processes

#: Files of the options and the outcome, and of the pictures; the others in the folder are the
#: learner's.
SUMMARY, CURVE, ATOMS = "learning.json", "curve.png", "atoms.png"
DEFAULTS = {field.name: field.default for field in dataclasses.fields(LearningExperiment)} | {
    "batch": "all of them",
    "record_every": "one epoch",
}


@click.command("learn")
@click.option(
    "--dataset", metavar="SPEC", help="Dataset with the observations and the first dictionary."
)
@training_options(DEFAULTS)
@click.option("--chunk", type=int, help="Samples in memory at once [default: the whole batch].")
@click.option(
    "--fresh/--no-fresh", default=None, help="Draw new samples for every step [default: no]."
)
@click.option(
    "--start",
    metavar="FILE",
    help="File (.npy) of the dictionary to start at [default: the dataset's].",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help=(
        "Time after which a process of torchrun's takes the others for lost: longer than any step."
    ),
)
def learn_command(
    experiment: str | None, device: str, out: Path, resume: bool, timeout: float, **options: Any
) -> None:
    """Learn a dictionary.

    FOLDER receives the history (history.csv), the dictionary (dictionary.npy), the options
    (learning.json), pictures of the history (curve.png) and of the atoms before and after
    (atoms.png), and a checkpoint that is renewed on the way. Repeat the command with --resume to
    continue a training that was killed: on the CPU its result is the same, bit for bit, as without
    the interruption. Started by torchrun, several processes share every batch; the steps are those
    of one process, up to rounding. `pudle list experiments` lists the named experiments.

    \b
    Examples:
      pudle learn --dataset 'sparse_gaussian(perturbation=0.1)' --algorithm 'ista(step=0.2)' --loss
      reconstruction --out one pudle learn --dataset digits --batch 100 --optimizer
      'adam(learning_rate=0.01)' --estimator alternating --out two pudle learn --experiment
      2a-small-T25-backprop-lasso --epochs 20 --out three torchrun --nproc-per-node 4 -m pudle learn
      --experiment 2b-s10-hard --out four
    """
    from .processes import ProcessLost, launched

    given = {name: value for name, value in options.items() if value is not None}
    if experiment is not None:
        chosen = dataclasses.replace(named("learning", experiment), **given)
    elif "dataset" in given:
        chosen = LearningExperiment(**given)
    else:
        raise InvalidArgument(
            "--dataset is missing: name one, e.g. --dataset sparse_gaussian, or give --experiment"
            " NAME"
        )
    check_device(device)
    with launched(device, timeout) as (processes, own_device):
        try:
            _learn(chosen, own_device, out, resume, processes)
        except PudleError as error:
            # All processes refuse alike, and the first one says why; a lost process is seen by
            # those that are left.
            if processes.rank == 0 or isinstance(error, ProcessLost):
                raise
            click.get_current_context().exit(2)


def _learn(
    chosen: LearningExperiment, device: str, out: Path, resume: bool, processes: Processes
) -> None:
    """Learn on some processes; the first one prints and writes."""
    from .drawing import draw_atoms, draw_curve

    learner, problem, first = chosen.learner(), chosen.problem(device), processes.rank == 0
    options: dict[str, Any] = {
        "folder": out,
        "resume": resume,
        "source": chosen.source(),
        "processes": processes,
    }
    with (
        warnings.catch_warnings(record=True) as caught,
        shown_progress("learning", hidden=not first) as show,
    ):
        warnings.simplefilter("always")
        training = learner.fit(problem, progress=show, **options)
    if not first:
        return
    for warning in caught:
        # The warning about a divergence is left out, because it is the error that the command ends
        # with.
        if training.status != "diverged" or training.reason not in str(warning.message):
            click.echo(f"pudle: warning: {warning.message}", err=True)
    summary = {"options": dataclasses.asdict(chosen), "device": device, "processes": processes.size}
    summary |= {name: getattr(training, name) for name in ("status", "reason", "steps")}
    write_atomically(out / SUMMARY, json.dumps(summary, indent=1))
    generating = problem.generating_dictionary
    tensors = (
        problem.dictionary,
        training.dictionary,
        *([] if generating is None else [generating]),
    )
    draw_curve(out / CURVE, training.history)
    draw_atoms(out / ATOMS, *(tensor.cpu().numpy() for tensor in tensors))
    click.echo(f"{_describe(chosen, training)}; results in {out}")
    if training.status == "diverged":
        raise PudleError(
            f"{training.reason}; the history up to there is in {out}, and --resume leads no"
            " further: start in another folder"
        )


def _describe(chosen: LearningExperiment, training: Training) -> str:
    first, last = training.history.iloc[0], training.history.iloc[-1]
    parts = [
        f"{chosen.estimator} with {chosen.optimizer}: {count(training.steps, 'step')} in"
        f" {last.seconds:.1f} s"
    ]
    if len(training.history) > 1:
        parts.append(f"loss {training.history.loss.iloc[1]:.4g} -> {last.loss:.4g}")
    # NaN without a generating dictionary.
    if first.dictionary_error == first.dictionary_error:
        errors = f"dictionary error {first.dictionary_error:.4g} -> {last.dictionary_error:.4g}"
        parts.append(f"{errors} (relative {last.relative_error:.3g})")
    return ", ".join(parts)
