"""`pudle learn`: learn a dictionary with one estimator, algorithm and optimizer. `pudle denoise`:
learn filters from noisy images and test them on others, next to other packages' methods.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.progress import TimeRemainingColumn

from .. import names
from ..errors import InvalidArgument, PudleError, UnreadableResult
from ..measuring.experiment import Experiment, ExperimentResult, ProgressCallback
from ..measuring.results.experiment import CarriedExperiment
from ..measuring.run import write_apart
from ..terminal import POSITIVE, check_device, device_option, echo, progress_bar
from ..text import count
from ..validation import type_hints
from .denoising import DenoisingExperiment
from .options import summaries
from .processes import launched, number_launched
from .training import LearningExperiment

E = TypeVar("E", bound=Experiment)

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


def _options(cls: type[Experiment], *, defaults: bool = True) -> list[click.Parameter]:
    """Return an option for each field of an experiment and of the training within it, None where it
    is not given; help texts name the defaults, but for those of a training within.
    """
    hints, texts = type_hints(cls), summaries(cls)
    found: list[click.Parameter] = []
    for each in fields(cls):
        kind, flag = hints[each.name], each.name.replace("_", "-")
        if kind is LearningExperiment:
            found += _options(LearningExperiment, defaults=False)
            continue
        named = (
            defaults and isinstance(each.default, str | int | float) and each.default is not False
        )
        shown = f" [default: {each.default}]" * named
        option = click.Option(
            [f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"],
            type={int: int, int | None: int, float: float, float | None: float}.get(kind),
            # To click, a default of None is a value.
            default=None,
            help=f"{texts[each.name]}{shown}.",
        )
        found.append(option)
    return found


def _named(kind: type[E], name: str, noun: str) -> tuple[str, E]:
    """Return the study and the experiment of that kind and name."""
    for study, experiments in names.entries("experiments").items():
        if isinstance(found := experiments.get(name), kind):
            return study, found
    raise InvalidArgument(
        f"unknown {noun} experiment {name!r}{names.nearest(name, names.list_experiments())}:"
        " `pudle list experiments` lists all with their kinds, and `pudle run --experiment NAME`"
        " carries out any"
    )


def _given(options: Mapping[str, Any], cls: type[Experiment]) -> dict[str, Any]:
    """Return the fields of an experiment that options were given for."""
    given = ((each.name, options.get(each.name)) for each in fields(cls))
    return {name: value for name, value in given if value is not None}


def _carry_out(title: str, run: Callable[[ProgressCallback], ExperimentResult]) -> ExperimentResult:
    """Carry an experiment out with a progress bar, and print its warnings."""
    with progress_bar(TimeRemainingColumn()) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, line: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{title}: {line}")

        result = run(show)
    if result.status == "ok" and result.reason:
        echo(f"pudle: warning: {result.reason}", err=True)
    return result


def _finish(carried: CarriedExperiment, result: ExperimentResult, out: Path, device: str) -> None:
    """Write the result, and raise PudleError for a training that diverged."""
    write_apart(out, [(carried, result)], device)
    if result.status != "ok":
        raise PudleError(
            f"{result.reason}; the history up to there is in {out}, and --resume leads no further:"
            " start in another folder"
        )


@click.command("learn", params=_options(LearningExperiment))
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
        study, chosen = _named(LearningExperiment, experiment, "learning")
    chosen = replace(chosen, **_given(options, LearningExperiment))
    title = f"{chosen.estimator} with {chosen.optimizer}"
    with launched(check_device(device), timeout) as (processes, own_device):

        def run(progress: ProgressCallback) -> ExperimentResult:
            return chosen.run(out, own_device, progress, resume=resume, processes=processes)

        if processes.rank:
            # All processes refuse alike, and the first one says why.
            with contextlib.suppress(InvalidArgument, UnreadableResult):
                run(lambda *_: None)
            return
        result = _carry_out(title, run)
        ended: Mapping[str, Any] = result.summary
        error = ended["dictionary_error"]
        shown = "" if math.isnan(error) else f", dictionary error {error:.4g}"
        if "gradient_gap" in ended:
            gaps = count(ended["gradient_gap"], "gap")
            shown += f", median error of the gradient {ended['gradient_error']:.2g} with {gaps}"
        took = f"{count(ended['steps'], 'step')} in {ended['seconds']:.1f} s"
        echo(f"{title}: {took}{shown}; results in {out}")
        carried = CarriedExperiment(experiment or title, study, chosen)
        _finish(carried, result, out, own_device)


@click.command("denoise", params=_options(DenoisingExperiment))
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
    study, chosen = _named(DenoisingExperiment, experiment or "denoising-backprop", "denoising")
    # The experiment's step is short enough for photographs; filters of smoother images grow so much
    # alike that it has to follow from them.
    own = {} if experiment else {"algorithm": "fista"}
    training = own | _given(options, LearningExperiment)
    given = _given(options, DenoisingExperiment)
    chosen = replace(chosen, training=replace(chosen.training, **training), **given)
    # The budget counts processor seconds, which would add up over threads.
    torch.set_num_threads(1)
    check_device(device)
    result = _carry_out(
        chosen.method, lambda progress: chosen.run(out, device, progress, resume=resume)
    )
    known = (
        f"{name} {value:.4g}"
        for name, value in result.summary.items()
        if isinstance(value, float) and not math.isnan(value)
    )
    echo(f"{chosen.method}: {', '.join(known)}")
    _finish(CarriedExperiment(experiment or chosen.method, study, chosen), result, out, device)
