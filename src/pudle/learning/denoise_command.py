"""`pudle denoise`: filters learned from noisy images and tested on others, beside other packages' methods."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.table import Table

from .. import registry, specs
from ..errors import InvalidArgument, MissingDependency, PudleError
from ..files import write_atomically
from ..terminal import check_device, output, progress_bar
from .denoising import METHODS, DenoisingBaseline, DenoisingExperiment
from .training import LearningExperiment

if TYPE_CHECKING:
    from ..measuring.experiment import Experiment, ExperimentResult

#: What the folder holds beside the files of the learner: the options and what came of them.
SUMMARY, PICTURES = "denoising.json", "pictures.npz"
#: Columns of the table: heading, key of the summary, format.
COLUMNS = (
    ("PSNR, dB", "psnr", ".2f"),
    ("SSIM", "ssim", ".4f"),
    ("PSNR, shifts averaged", "psnr_shifted", ".2f"),
    ("SSIM, shifts averaged", "ssim_shifted", ".4f"),
)
#: Options that are fields of the training; the others are fields of the setting.
TRAINING = {field.name for field in dataclasses.fields(LearningExperiment)}


@click.command("denoise")
@click.option("--setting", metavar="NAME", help="A named setting; options beside it replace its own.")
@click.option("--settings", "listing", is_flag=True, help="List the named settings and leave.")
@click.option("--training-images", metavar="FOLDER", help="Images to learn from [default: $PUDLE_TRAINING_IMAGES].")
@click.option("--test-images", metavar="FOLDER", help="Images to test on [default: $PUDLE_TEST_IMAGES].")
@click.option("--sigma", type=float, help="Standard deviation of the noise, of 255 [default: 25].")
@click.option("--budget", type=float, metavar="SECONDS", help="Of training, of one thread of the processor [default: 900].")
@click.option("--validation", type=int, help="Images held out of the training images [default: 5].")
@click.option("--shifts/--no-shifts", default=None, help="Average over all shifts of the grid as well [default: yes].")
@click.option("--baseline", "baselines", multiple=True, type=click.Choice(list(METHODS)), help="Another package's method.")
@click.option("--dataset", metavar="SPEC", help="Of noisy_crops: filters and penalty.")
@click.option("--loss", help="Outer loss.")
@click.option("--estimator", metavar="SPEC", help="Of the gradient.")
@click.option("--algorithm", metavar="SPEC", help="What is unrolled.")
@click.option("--depth", type=int, help="Layers.")
@click.option("--optimizer", metavar="SPEC", help="With arguments, such as 'adam(learning_rate=1e-3)'.")
@click.option("--schedule", metavar="SPEC", help="Of the learning rate, epoch by epoch.")
@click.option("--epochs", type=int, help="Passes over the crops.")
@click.option("--batch", type=int, help="Crops per step.")
@click.option("--seed", type=int, help="Of the crops and of their order.")
@click.option("--record-every", type=int, help="Steps between rows of the history, each of which takes a validation.")
@click.option("--dtype", type=click.Choice(["float64", "float32"]), help="Precision.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Where results go; needed to learn."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in FOLDER.")
def denoise_command(
    setting: str | None,
    listing: bool,
    baselines: tuple[str, ...],
    device: str,
    out: Path | None,
    resume: bool,
    **options: Any,
) -> None:
    """Learn filters from noisy images and denoise others with them.

    Without --setting the options change `denoising-backprop`. Without folders the two photographs that ship inside
    scikit-learn serve, one to learn from and one to test on. Every method gets the same noisy images. FOLDER receives the
    history (history.csv, with the PSNR on images held out of the training images), the filters (dictionary.npy), options
    and results (denoising.json), pictures of one test image (pictures.npz) and a checkpoint.

    \b
    Examples:
      pudle denoise --setting denoising-small-backprop --baseline wavelet --out one
      pudle denoise --training-images BSD432 --test-images BSD68 --estimator alternating --loss lasso --out two
    """
    known = {name: found for name, found in registry.list_experiments().items() if found.kind == "denoising"}
    if listing:
        for name, found in known.items():
            click.echo(f"{name}: {found.method}")  # type: ignore[attr-defined]
        return
    chosen = _choose(
        setting or "denoising-backprop", known, {key: value for key, value in options.items() if value is not None}
    )
    if out is None:
        raise InvalidArgument("--out is missing: name the folder that the results go to")
    check_device(device)
    import torch

    from .learner import CHECKPOINT

    # A setting resumes what its folder holds.
    if resume and not (out / CHECKPOINT).exists():
        raise InvalidArgument(f"{out} holds no checkpoint to resume: start without --resume first")
    if not resume and ((out / CHECKPOINT).exists() or (out / SUMMARY).exists()):
        raise InvalidArgument(f"{out} holds results already: give another folder, or --resume")
    # The budget is of seconds of the processor, which would add up over threads.
    torch.set_num_threads(1)
    outcomes = {}
    if isinstance(chosen, DenoisingExperiment):
        outcomes[chosen.method] = _carry_out(chosen, out, device)
    others = [chosen] if isinstance(chosen, DenoisingBaseline) else []
    others += [
        DenoisingBaseline(name, chosen.test_images, chosen.sigma, chosen.noise_seed)  # type: ignore[attr-defined]
        for name in baselines
    ]
    for baseline in others:
        try:
            outcomes[baseline.method] = _carry_out(baseline, out, device)
        except MissingDependency as missing:
            click.echo(f"pudle: {baseline.method} is left out: {missing}", err=True)
    _write(out, chosen, outcomes)
    _print(outcomes)
    for outcome in outcomes.values():
        if outcome.status != "ok":
            raise PudleError(f"{outcome.reason}; the history up to there is in {out}")


def _choose(name: str, known: dict[str, Experiment], given: dict[str, Any]) -> Experiment:
    """Return the named setting, with what was given in place of its own values."""
    if name not in known:
        raise InvalidArgument(
            f"unknown setting {name!r}{specs.nearest(name, known)}: `pudle denoise --settings` lists all {len(known)}"
        )
    chosen: Any = known[name]
    training = {key: value for key, value in given.items() if key in TRAINING}
    rest = {key: value for key, value in given.items() if key not in TRAINING}
    if isinstance(chosen, DenoisingBaseline):
        unfit = sorted({*training, *rest} - {field.name for field in dataclasses.fields(chosen)})
        if unfit:
            raise InvalidArgument(f"setting {name!r} learns nothing, so that it has no --{unfit[0].replace('_', '-')}")
        return dataclasses.replace(chosen, **rest)
    if training:
        rest["training"] = dataclasses.replace(chosen.training, **training)
    return dataclasses.replace(chosen, **rest)


def _carry_out(experiment: Any, out: Path, device: str) -> ExperimentResult:
    with progress_bar() as bar:
        task = bar.add_task(experiment.method, total=None)

        def show(done: int, total: int, line: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{experiment.method}: {line}")

        return experiment.run(out, device, show)


def _write(out: Path, chosen: Experiment, outcomes: dict[str, ExperimentResult]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "setting": dataclasses.asdict(chosen),  # type: ignore[call-overload]
        "results": {
            # Strict JSON has no NaN.
            name: {key: None if value != value else value for key, value in outcome.summary.items()}
            | {"status": outcome.status}
            for name, outcome in outcomes.items()
        },
    }
    write_atomically(out / SUMMARY, json.dumps(content, indent=1))
    pictures: Any = {f"{name}: {key}": array for name, outcome in outcomes.items() for key, array in outcome.arrays.items()}
    np.savez_compressed(out / PICTURES, **pictures)


def _print(outcomes: dict[str, ExperimentResult]) -> None:
    tested = {name: outcome.summary for name, outcome in outcomes.items() if outcome.status == "ok"}
    if not tested:
        return
    summary = next(iter(tested.values()))
    table = Table(
        title=f"{summary['images']} images of {summary['test_images']}, sigma {summary['sigma']:g}", title_justify="left"
    )
    table.add_column("method", no_wrap=True)
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right")
    table.add_row("noisy", f"{summary['noisy_psnr']:.2f}")
    for name, found in tested.items():
        values = [found[key] for _, key, _ in COLUMNS]
        # What was not computed is NaN.
        cells = [format(value, form) if value == value else "" for value, (_, _, form) in zip(values, COLUMNS, strict=True)]
        table.add_row(name, *cells)
    output(width=120).print(table)
