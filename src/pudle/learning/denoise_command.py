"""`pudle denoise`: learn filters from noisy images and test them on others, next to other packages'
methods.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from ..errors import InvalidArgument, MissingDependency, PudleError
from ..files import write_atomically
from ..measuring.experiment import ExperimentResult
from ..terminal import check_device, output
from ..text import count
from .command_options import named, shown_progress, training_options
from .training import LearningExperiment

# Help and wrong usage do without torch: what imports it is imported where it is used.

#: Files of the options and results, and of the pictures; the others in the folder are the
#: learner's.
SUMMARY, PICTURES = "denoising.json", "pictures.npz"
#: Columns of the table: heading, and key and format of the value in a summary.
COLUMNS = {
    "PSNR, dB": ("psnr", ".2f"),
    "SSIM": ("ssim", ".4f"),
    "PSNR, shifts averaged": ("psnr_shifted", ".2f"),
    "SSIM, shifts averaged": ("ssim_shifted", ".4f"),
}
#: Options that are fields of the training; the others are fields of the experiment.
TRAINING = {field.name for field in dataclasses.fields(LearningExperiment)}
BASELINES = (
    "Another package's method: BM3D, non-local means, wavelet or total variation; repeatable."
)


@click.command("denoise")
@click.option(
    "--training-images",
    metavar="FOLDER",
    help="Images to learn from [default: $PUDLE_TRAINING_IMAGES].",
)
@click.option(
    "--test-images", metavar="FOLDER", help="Images to test on [default: $PUDLE_TEST_IMAGES]."
)
@click.option(
    "--sigma", type=float, help="Noise standard deviation, on the 0-255 scale [default: 25]."
)
@click.option(
    "--budget",
    type=float,
    metavar="SECONDS",
    help="Processor seconds for the training [default: 900].",
)
@click.option("--validation", type=int, help="Images held out of the training images [default: 5].")
@click.option(
    "--shifts/--no-shifts",
    default=None,
    help="Average over all shifts of the grid as well [default: yes].",
)
@click.option("--baseline", "baselines", multiple=True, metavar="METHOD", help=BASELINES)
@click.option("--dataset", metavar="SPEC", help="Spec of noisy_crops: crops, filters and penalty.")
@training_options({})
def denoise_command(
    experiment: str | None,
    baselines: tuple[str, ...],
    device: str,
    out: Path,
    resume: bool,
    **options: Any,
) -> None:
    """Learn filters from noisy images and denoise others with them.

    Without --experiment the options change `denoising-backprop`. Without folders the two
    photographs that ship inside scikit-learn are used, one to learn from and one to test on. Every
    method gets the same noisy images. FOLDER receives the history (history.csv, with the PSNR on
    images held out of the training images), the filters (dictionary.npy), options and results
    (denoising.json), one test image before and after (images.png, its pixels in pictures.npz),
    pictures of the history and the filters (curve.png, filters.png), and a checkpoint. Each row of
    the history costs one validation.

    \b
    Examples:
      pudle denoise --experiment denoising-small-backprop --baseline wavelet --out one pudle denoise
      --training-images BSD432 --test-images BSD68 --estimator alternating --loss lasso --out two
    """
    import numpy as np
    import torch

    from .checkpoint import CHECKPOINT
    from .denoising import DenoisingExperiment
    from .denoising_baselines import DenoisingBaseline
    from .processes import number_launched

    if number_launched() > 1:
        raise InvalidArgument(
            "denoise learns in one process: start it without torchrun, or learn with `pudle learn`"
        )
    given = {key: value for key, value in options.items() if value is not None}
    name = experiment or "denoising-backprop"
    chosen = named("denoising", name)
    if isinstance(chosen, DenoisingBaseline):
        if unfit := sorted({*given} - {field.name for field in dataclasses.fields(chosen)}):
            raise InvalidArgument(
                f"experiment {name!r} learns nothing, so that it has no"
                f" --{unfit[0].replace('_', '-')}"
            )
    else:
        training = {key: given.pop(key) for key in TRAINING & given.keys()}
        given["training"] = dataclasses.replace(chosen.training, **training)
    chosen = dataclasses.replace(chosen, **given)
    others = [
        DenoisingBaseline(name, chosen.test_images, chosen.sigma, chosen.noise_seed)
        for name in baselines
    ]
    check_device(device)
    if resume and not (out / CHECKPOINT).exists():
        raise InvalidArgument(f"{out} holds no checkpoint to resume: start without --resume first")
    if not resume and ((out / CHECKPOINT).exists() or (out / SUMMARY).exists()):
        raise InvalidArgument(f"{out} holds results already: give another folder, or --resume")
    # The budget counts processor seconds, which would add up over threads.
    torch.set_num_threads(1)
    results: dict[str, ExperimentResult] = {}
    for each in (chosen, *others):
        try:
            with shown_progress(each.method) as show:
                results[each.method] = each.run(out, device, show)
        except MissingDependency as error:
            if isinstance(each, DenoisingExperiment):
                raise
            click.echo(f"pudle: {each.method} is left out: {error}", err=True)
    out.mkdir(parents=True, exist_ok=True)
    # Strict JSON has no NaN.
    strict = {
        name: (
            {key: None if value != value else value for key, value in result.summary.items()}
            | {"status": result.status}
        )
        for name, result in results.items()
    }
    write_atomically(
        out / SUMMARY,
        json.dumps({"options": dataclasses.asdict(chosen), "results": strict}, indent=1),
    )
    pictures: Any = {
        f"{name}: {key}": array
        for name, result in results.items()
        for key, array in result.arrays.items()
    }
    np.savez_compressed(out / PICTURES, **pictures)
    _draw(out, results)
    _print({name: result.summary for name, result in results.items() if result.status == "ok"})
    for result in results.values():
        if result.status != "ok":
            raise PudleError(f"{result.reason}; the history up to there is in {out}")


def _draw(out: Path, results: Mapping[str, ExperimentResult]) -> None:
    """Draw the curve and the filters of the training, and a test image before and after denoising
    by each method.
    """
    import pandas as pd

    from .drawing import draw_curve, draw_images, filter_sheet

    images: dict[str, Any] = {}
    for name, result in results.items():
        arrays = result.arrays
        draw_curve(out / "curve.png", pd.DataFrame(result.rows))
        if "filters" in arrays:
            draw_images(
                out / "filters.png", {f"filters of {name}": filter_sheet(arrays["filters"])}
            )
        if "denoised" in arrays:
            images = images or {"clean": arrays["clean"], "noisy": arrays["noisy"]}
            images[name] = arrays["denoised"]
    if images:
        draw_images(out / "images.png", images)


def _print(summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table of the methods' qualities on the test images."""
    if not summaries:
        return
    first = next(iter(summaries.values()))
    title = f"{count(first['images'], 'image')} of {first['test_images']}, sigma {first['sigma']:g}"
    table = Table("method", title=title, title_justify="left")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    table.add_row("noisy", f"{first['noisy_psnr']:.2f}")
    for name, summary in summaries.items():
        # NaN where a method has no average over shifts.
        cells = ((summary[key], form) for key, form in COLUMNS.values())
        table.add_row(
            name, *("" if value != value else format(value, form) for value, form in cells)
        )
    output(width=120).print(table)
