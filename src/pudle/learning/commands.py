"""`pudle learn`: learn a dictionary with one estimator, algorithm and optimizer. `pudle denoise`:
learn filters from noisy images and test them on others, next to other packages' methods.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.progress import TimeRemainingColumn

from .. import names
from ..errors import InvalidArgument, PudleError, UnreadableResult
from ..files import remove_leftovers, sweep_temporary_folders
from ..measuring.execution import write_apart
from ..measuring.results.experiment import CarriedExperiment
from ..terminal import POSITIVE, check_device, device_option, echo, progress_bar
from ..text import about
from ..validation import type_hints
from .denoising import DenoisingExperiment
from .learning_experiment import LearningExperiment
from .options import summaries
from .processes import joined_processes, number_launched

E = TypeVar("E", bound=LearningExperiment)

#: Seconds up to which a training says nothing of its length when it starts.
SHORT = 10.0

experiment_option = click.option(
    "--experiment", help="Start from a named experiment; other options replace its values."
)
resume_option = click.option(
    "--resume", is_flag=True, help="Continue from the checkpoint in the folder."
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the results.",
)


def _options(cls: type[LearningExperiment], *, defaults: bool) -> list[click.Parameter]:
    """Return an option for each field of an experiment, None where it is not given; help texts name
    the defaults, unless another experiment has them (`defaults` is false).
    """
    hints, texts = type_hints(cls), summaries(cls)
    options: list[click.Parameter] = []
    for field in fields(cls):
        kind, flag = hints[field.name], field.name.replace("_", "-")
        default = ""
        if defaults and isinstance(field.default, str | int | float) and field.default is not False:
            default = f" [default: {field.default}]"
        option = click.Option(
            [f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"],
            type={int: int, int | None: int, float: float, float | None: float}.get(kind),
            # To click, a default of None is a value.
            default=None,
            help=f"{texts[field.name]}{default}.",
        )
        options.append(option)
    return options


def _find_experiment(kind: type[E], name: str, noun: str) -> tuple[str, E]:
    """Return the study of the experiment of that kind and name, and the experiment;
    InvalidArgument, which calls it `noun`, says that there is none. All studies are loaded.
    """
    for study, experiments in names.entries("experiments").items():
        experiment = experiments.get(name)
        if isinstance(experiment, kind) and experiment.kind == kind.kind:
            return study, experiment
    raise InvalidArgument(
        f"unknown {noun} experiment {name!r}{names.nearest(name, names.list_experiments())}:"
        " `pudle list experiments` lists all with their kinds, and `pudle run --experiment NAME`"
        " carries out any"
    )


def _carry_out(
    name: str | None,
    study: str,
    chosen: LearningExperiment,
    options: Mapping[str, Any],
    out: Path,
    resume: bool,
    device: str,
    timeout: float = 0.0,
) -> None:
    """Carry out an experiment, changed by the options that were given, with a progress bar; print
    its warnings, and write its result into the folder `out`.

    Of the processes that torchrun started only the first prints and writes. Unfinished files in the
    folder, and temporary folders of commands that were killed, are removed. PudleError is raised
    for a training that diverged, after its result is written.
    """
    changes = {name: value for name, value in options.items() if value is not None}
    chosen = replace(chosen, **changes)
    title = chosen.title
    with joined_processes(check_device(device), timeout) as (processes, own_device):
        run = partial(chosen.run, out, own_device, resume=resume, processes=processes)
        if processes.rank:
            # All processes refuse alike, and the first one says why.
            with contextlib.suppress(InvalidArgument, UnreadableResult):
                run()
            return
        # Of trainings that were killed.
        remove_leftovers(out)
        sweep_temporary_folders()
        with progress_bar(TimeRemainingColumn()) as bar:
            task, is_announced = bar.add_task(title, total=None), False

            def show(completed: int, total: int, line: str) -> None:
                """Show progress in the bar, and at the first step, before which anything wrong is
                refused, about how long it takes.
                """
                nonlocal is_announced
                if not is_announced:
                    # Not before: what is refused takes no time.
                    _announce(chosen)
                    is_announced = True
                bar.update(task, completed=completed, total=total, description=f"{title}: {line}")

            result = run(progress=show)
        if result.status == "ok" and result.reason:
            echo(f"pudle: warning: {result.reason}", err=True)
        summary = (
            f"{name.replace('_', ' ')} {value if isinstance(value, int) else f'{value:.4g}'}"
            for name, value in result.summary.items()
            if isinstance(value, int | float) and not math.isnan(value)
        )
        echo(f"{title}: {', '.join(summary)}; results in {out}")
        write_apart(out, [(CarriedExperiment(name or title, study, chosen), result)], own_device)
        if result.status != "ok":
            raise PudleError(
                f"{result.reason}; the history up to there is in {out}, and --resume leads no"
                " further: start in another folder"
            )


def _announce(experiment: LearningExperiment) -> None:
    """Say on stderr about how long an experiment takes, if that is known and above `SHORT`
    seconds.
    """
    seconds = experiment.expected_seconds()
    if seconds is not None and seconds > SHORT:
        echo(f"pudle: {experiment.title} takes about {about(seconds)} on one core", err=True)


@click.command("learn", params=_options(LearningExperiment, defaults=True))
@experiment_option
@resume_option
@out_option
@device_option
@click.option(
    "--timeout",
    type=POSITIVE,
    default=600.0,
    show_default=True,
    help="Seconds after which one of torchrun's processes takes the others for lost.",
)
def learn_command(
    experiment: str | None, out: Path, resume: bool, device: str, timeout: float, **options: Any
) -> None:
    """Learn a dictionary.

    The folder receives the history (history.csv), the dictionary (dictionary.npy), the options and
    results, which `pudle report` shows, and a checkpoint that is renewed on the way. Repeat the
    command with --resume to continue a training that was killed: on the CPU its result is the same,
    bit for bit, as without the interruption. Started by torchrun, several processes share every
    batch; the steps are those of one process, up to rounding. `pudle list experiments` lists the
    named experiments.

    \b
    Examples:
      pudle learn --dataset 'sparse_gaussian(perturbation=0.1)' --loss reconstruction --out one
      pudle learn --dataset digits --batch 100 --estimator alternating --out two
      pudle learn --experiment 2a-small-T25-backprop-lasso --epochs 20 --out three
      torchrun --nproc-per-node 4 -m pudle learn --experiment 2b-s10-hard --out four
    """
    if not (experiment or options["dataset"]):
        raise InvalidArgument(
            "--dataset is missing: name one, e.g. --dataset sparse_gaussian, or give --experiment"
            " NAME"
        )
    study, chosen = "learn", LearningExperiment("")
    if experiment:
        study, chosen = _find_experiment(LearningExperiment, experiment, "learning")
    _carry_out(experiment, study, chosen, options, out, resume, device, timeout)


@click.command("denoise", params=_options(DenoisingExperiment, defaults=False))
@experiment_option
@resume_option
@out_option
@device_option
def denoise_command(
    experiment: str | None, out: Path, resume: bool, device: str, **options: Any
) -> None:
    """Learn filters from noisy images and denoise others with them.

    Without --experiment the options change those of the experiment `denoising-backprop`, but for
    its algorithm: `fista`, whose step follows from the filters, runs on every image. Without
    folders the two photographs that ship inside scikit-learn are used, one to learn from and one to
    test on. Other packages' methods on the same noisy images are experiments of `pudle run`, such
    as `denoising-bm3d`. The folder receives the history (history.csv, with the PSNR on images held
    out of the training images), the filters (dictionary.npy), the
    options and results, which `pudle report` shows with the filters and a test image, and a
    checkpoint. Each row of the history costs one validation.

    \b
    Examples:
      pudle denoise --experiment denoising-small-backprop --out one
      pudle denoise --training-images BSD432 --test-images BSD68 --estimator alternating --out two
      pudle denoise --training-images SMALL --dataset 'noisy_crops(size=64)' --out three
    """
    import torch

    if number_launched() > 1:
        raise InvalidArgument(
            "denoise learns in one process: start it without torchrun, or learn with `pudle learn`"
        )
    study, chosen = _find_experiment(
        DenoisingExperiment, experiment or "denoising-backprop", "denoising"
    )
    # The experiment's step is short enough for photographs; filters of smoother images grow so much
    # alike that it has to follow from them.
    chosen = chosen if experiment else replace(chosen, algorithm="fista")
    if (options["budget"] or chosen.budget) is not None:
        # It counts processor seconds, which would add up over threads.
        torch.set_num_threads(1)
    _carry_out(experiment, study, chosen, options, out, resume, device)
