"""`pudle learn`: learn a dictionary with one estimator, algorithm and optimizer. `pudle denoise`:
learn filters from noisy images and test them on others, next to other packages' methods.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import TimeRemainingColumn

from .. import names
from ..errors import InvalidArgument, MissingDependency, PudleError
from ..files import strict, write_atomically
from ..terminal import check_device, progress_bar
from ..text import count
from .training import LearningExperiment

# Help and wrong usage do without torch: what imports it is imported where it is used.
if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: File of options and results; the other files in a folder are pictures and the learner's.
RESULTS = "results.json"
#: Options that are fields of `LearningExperiment`: a type or a metavar, and the help text.
TRAINING: dict[str, tuple[Any, str]] = {
    "dataset": ("SPEC", "Dataset with the observations and the first dictionary"),
    "loss": ("LOSS", "Outer loss"),
    "estimator": ("SPEC", "Gradient estimator, e.g. `truncated(window=20)`"),
    "algorithm": ("SPEC", "Unrolled algorithm, e.g. `ista(step=0.2)`"),
    "depth": (int, "Number of unrolled layers"),
    "optimizer": (
        "SPEC",
        "Optimizer: sgd, momentum, adam, adamw or lbfgs, e.g. `adam(learning_rate=1e-3)`",
    ),
    "schedule": (
        "SPEC",
        "Learning rate by epoch: constant, step or cosine, e.g. `step(every=100)`",
    ),
    "epochs": (int, "Passes over the samples"),
    "batch": (int, "Samples per step, all of them by default"),
    "seed": (int, "Seed of the dataset and of the sample order"),
    "record_every": (int, "Steps between rows of the history, an epoch by default"),
    "dtype": (click.Choice(["float64", "float32"]), "Precision"),
}
LEARN: dict[str, tuple[Any, str]] = TRAINING | {
    "chunk": (int, "Samples in memory at once, the whole batch by default"),
    "fresh": (bool, "Draw new samples for every step"),
    "start": ("FILE", "File (.npy) of the dictionary to start at, the dataset's by default"),
}
DENOISE: dict[str, tuple[Any, str]] = {
    "training_images": ("FOLDER", "Images to learn from [default: $PUDLE_TRAINING_IMAGES]"),
    "test_images": ("FOLDER", "Images to test on [default: $PUDLE_TEST_IMAGES]"),
    "sigma": (float, "Noise standard deviation, on the 0-255 scale [default: 25]"),
    "budget": (float, "Processor seconds for the training [default: 900]"),
    "validation": (int, "Images held out of the training images [default: 5]"),
    "shifts": (bool, "Average over all shifts of the grid as well [default: yes]"),
} | TRAINING
#: Columns of a history that its picture shows, and of the table of methods that denoise.
CURVES = ("relative_error", "psnr", "loss")
TABLE = ("images", "noisy_psnr", "psnr", "ssim", "psnr_shifted", "ssim_shifted")


def _options(fields: Mapping[str, tuple[Any, str]], owner: Any = None) -> list[click.Parameter]:
    """Return options for fields, None where they are not given, and those that both commands share;
    help texts name the defaults of the `owner` of the fields.
    """
    text = "Start from a named experiment; other options replace its values."
    options = [click.Option(["--experiment"], metavar="NAME", help=text)]
    for name, (kind, text) in fields.items():
        flag, default = name.replace("_", "-"), getattr(owner, name, None)
        options.append(
            click.Option(
                [f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"],
                type=None if isinstance(kind, str) else kind,
                metavar=kind if isinstance(kind, str) else None,
                default=None,
                help=f"{text}." if default is None else f"{text} [default: {default}].",
            )
        )
    folder, devices = click.Path(path_type=Path, file_okay=False), click.Choice(["cpu", "cuda"])
    return [
        *options,
        click.Option(["--device"], type=devices, default="cpu", help="Device [default: cpu]."),
        click.Option(
            ["--out"], type=folder, metavar="FOLDER", required=True, help="Folder for the results."
        ),
        click.Option(["--resume"], is_flag=True, help="Continue from the checkpoint in FOLDER."),
    ]


def _named(kind: str, name: str) -> Any:
    """Return the experiment of that kind and name."""
    experiments = names.list_experiments()
    of_kind = [key for key, experiment in experiments.items() if experiment.kind == kind]
    if name not in of_kind:
        nearest = names.nearest(name, of_kind)
        raise InvalidArgument(
            f"unknown experiment {name!r}{nearest}: `pudle list experiments` lists all of them"
        )
    return experiments[name]


def _carry_out(
    experiments: Mapping[str, Any], out: Path, device: str, *, quiet: bool = False, **options: Any
) -> dict[str, Any]:
    """Carry experiments out and return their summaries; unless this process shall be quiet, show
    progress, and write options, results and pictures.
    """
    import pandas as pd

    summaries = {}
    for title, experiment in experiments.items():
        with progress_bar(TimeRemainingColumn()) as bar:
            task = bar.add_task(title, total=None, visible=not quiet)
            try:
                result = experiment.run(
                    out,
                    device,
                    lambda done, total, line, bar=bar, task=task, title=title: bar.update(
                        task, completed=done, total=total, description=f"{title}: {line}"
                    ),
                    **options,
                )
            except MissingDependency as error:
                if not hasattr(experiment, "baseline"):
                    raise
                click.echo(f"pudle: {title} is left out: {error}", err=True)
                continue
        summaries[title] = {**result.summary, "status": result.status, "reason": result.reason}
        if quiet:
            continue
        if result.status == "ok" and result.reason:
            click.echo(f"pudle: warning: {result.reason}", err=True)
        _draw_curve(out / "curve.png", pd.DataFrame(result.rows))
        for name, array in result.arrays.items():
            _draw(out / f"{name.replace('denoised', title)}.png", array)
    if not quiet:
        fields = dataclasses.asdict(next(iter(experiments.values())))
        content = strict({"options": fields, "device": device, "results": summaries})
        write_atomically(out / RESULTS, json.dumps(content, indent=1))
    return summaries


def _check(summaries: Mapping[str, Any], out: Path) -> None:
    """Raise PudleError for a training that diverged."""
    for summary in summaries.values():
        if summary["status"] != "ok":
            raise PudleError(
                f"{summary['reason']}; the history up to there is in {out}, and --resume leads no"
                " further: start in another folder"
            )


@click.command("learn", params=_options(LEARN, LearningExperiment))
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds after which one of torchrun's processes takes the others for lost.",
)
def learn_command(
    experiment: str | None, device: str, out: Path, resume: bool, timeout: float, **options: Any
) -> None:
    """Learn a dictionary.

    FOLDER receives the history (history.csv), the dictionary (dictionary.npy), the options
    (results.json), pictures of the history (curve.png) and of the atoms (dictionary.png), and a
    checkpoint that is renewed on the way. Repeat the command with --resume to
    continue a training that was killed: on the CPU its result is the same, bit for bit, as without
    the interruption. Started by torchrun, several processes share every batch; the steps are those
    of one process, up to rounding. `pudle list experiments` lists the named experiments.

    \b
    Examples:
      pudle learn --dataset 'sparse_gaussian(perturbation=0.1)' --loss reconstruction --out one
      pudle learn --dataset digits --batch 100 --estimator alternating --out two
      pudle learn --experiment 2a-small-T25-backprop-lasso --epochs 20 --out three
      torchrun --nproc-per-node 4 -m pudle learn --experiment 2b-s10-hard --out four
    """
    from .processes import ProcessLost, launched

    given = {name: value for name, value in options.items() if value is not None}
    if experiment is None and "dataset" not in given:
        raise InvalidArgument(
            "--dataset is missing: name one, e.g. --dataset sparse_gaussian, or give --experiment"
            " NAME"
        )
    chosen = _named("learning", experiment) if experiment else LearningExperiment("")
    chosen = dataclasses.replace(chosen, **given)
    title = f"{chosen.estimator} with {chosen.optimizer}"
    with launched(check_device(device), timeout) as (processes, own_device):
        first = processes.rank == 0
        try:
            summaries = _carry_out(
                {title: chosen},
                out,
                own_device,
                quiet=not first,
                resume=resume,
                processes=processes,
            )
            if first:
                steps, seconds = (summaries[title][name] for name in ("steps", "seconds"))
                error = summaries[title]["dictionary_error"]
                shown = "" if math.isnan(error) else f", dictionary error {error:.4g}"
                click.echo(
                    f"{title}: {count(steps, 'step')} in {seconds:.1f} s{shown}; results in {out}"
                )
            _check(summaries, out)
        except PudleError as failure:
            # All processes refuse alike, and the first one says why; a lost process is seen by
            # those that are left.
            if first or isinstance(failure, ProcessLost):
                raise
            click.get_current_context().exit(2)


@click.command("denoise", params=_options(DENOISE))
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="METHOD",
    help="Another package's method: BM3D, non-local means, wavelet or total variation; repeatable.",
)
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
    (results.json), pictures of the history (curve.png), of the filters from smooth to rough
    (filters.png) and of one test image (clean.png, noisy.png and one by the name of each method),
    and a checkpoint. Each row of the history costs one validation.

    \b
    Examples:
      pudle denoise --experiment denoising-small-backprop --baseline wavelet --out one
      pudle denoise --training-images BSD432 --test-images BSD68 --estimator alternating --out two
    """
    import pandas as pd
    import torch

    from .denoising import DenoisingBaseline
    from .processes import number_launched

    if number_launched() > 1:
        raise InvalidArgument(
            "denoise learns in one process: start it without torchrun, or learn with `pudle learn`"
        )
    given = {key: value for key, value in options.items() if value is not None}
    name = experiment or "denoising-backprop"
    chosen = _named("denoising", name)
    if not isinstance(chosen, DenoisingBaseline):
        training = {key: given.pop(key) for key in TRAINING.keys() & given.keys()}
        given["training"] = dataclasses.replace(chosen.training, **training)
    if unfit := sorted({*given} - {field.name for field in dataclasses.fields(chosen)}):
        raise InvalidArgument(
            f"experiment {name!r} learns nothing, so that it has no --{unfit[0].replace('_', '-')}"
        )
    chosen = dataclasses.replace(chosen, **given)
    others = (
        DenoisingBaseline(name, chosen.test_images, chosen.sigma, chosen.noise_seed)
        for name in baselines
    )
    methods = {each.method: each for each in (chosen, *others)}
    # The budget counts processor seconds, which would add up over threads.
    torch.set_num_threads(1)
    summaries = _carry_out(methods, out, check_device(device), resume=resume)
    table = pd.DataFrame(summaries, index=TABLE).T
    click.echo(table.to_string(na_rep="", float_format="{:.4g}".format))
    _check(summaries, out)


def _draw_curve(path: Path, history: pd.DataFrame) -> None:
    """Draw the columns `CURVES` of a history that have two numbers at least."""
    from matplotlib.figure import Figure

    shown = [name for name in CURVES if name in history and history[name].count() > 1]
    if shown:
        figure = Figure(figsize=(6, 3 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), squeeze=False)[:, 0]
        history.plot(x="step", y=shown, logy=shown[0] == CURVES[0], subplots=True, ax=axes)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        write_atomically(path, buffer.getvalue())


def _draw(path: Path, array: np.ndarray) -> None:
    """Draw an image, filters (p, k, k), or a dictionary: filters (p, c, k, k), atoms (m, p) of
    square images, or atoms as the columns of a matrix.
    """
    from PIL import Image

    from .images import gray, mosaic, signed

    side = math.isqrt(len(array))
    if path.stem == "dictionary" and array.ndim == 2:
        square = side**2 == len(array)
        image = mosaic(array.T.reshape(-1, side, side))[0] if square else signed(array)
    elif array.ndim > 2:
        image = mosaic(array.mean(1) if array.ndim == 4 else array)[0]
    elif array.ndim == 2:
        image = gray(array)
    else:
        return
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
