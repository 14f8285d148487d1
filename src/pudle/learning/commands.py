"""`pudle learn`: learn a dictionary with one estimator, algorithm and optimizer. `pudle denoise`:
learn filters from noisy images and test them on others, next to other packages' methods.
"""

import contextlib
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.progress import TimeRemainingColumn

from .. import names
from ..errors import InvalidArgument, MissingDependency, PudleError, UnreadableResult
from ..files import strict, write_atomically
from ..terminal import POSITIVE, check_device, device_option, echo, progress_bar
from ..text import count
from .processes import launched, number_launched
from .training import LearningExperiment

#: Help texts of the fields of `LearningExperiment` that are options of both commands, of those that
#: are options of `learn` alone, and of the fields of `DenoisingExperiment`.
TRAINING = {
    "dataset": "Dataset with the observations and the first dictionary",
    "loss": "Outer loss",
    "estimator": "Gradient estimator, e.g. `truncated(window=20)`",
    "algorithm": "Unrolled algorithm, e.g. `ista(step=0.2)`",
    "depth": "Number of unrolled layers",
    "optimizer": "Optimizer: sgd, momentum, adam, adamw or lbfgs, e.g. `adam(learning_rate=1e-3)`",
    "schedule": "Learning rate by epoch: constant, step or cosine, e.g. `step(every=100)`",
    "epochs": "Passes over the samples",
    "batch": "Samples per step, all of them by default",
    "seed": "Seed of the dataset and of the sample order",
    "record_every": "Steps between rows of the history, an epoch by default",
    "dtype": "Precision, float64 or float32",
}
LEARN = {
    "chunk": "Samples in memory at once, the whole batch by default",
    "fresh": "Draw new samples for every step",
    "warm_start": "Start each sample from the codes that it had before",
    "start": "File (.npy) of the dictionary to start at, the dataset's by default",
}
DENOISE = {
    "training_images": "Folder of images to learn from [default: $PUDLE_TRAINING_IMAGES]",
    "test_images": "Folder of images to test on [default: $PUDLE_TEST_IMAGES]",
    "sigma": "Noise standard deviation, on the 0-255 scale [default: 25]",
    "budget": "Processor seconds for the training [default: 900]",
    "validation": "Images held out of the training images [default: 5]",
    "shifts": "Average over all shifts of the grid as well [default: yes]",
}
COMMON = {
    "experiment": "Start from a named experiment; other options replace its values",
    "resume": "Continue from the checkpoint in the folder",
}
#: Options that are whole numbers.
COUNTS = "depth epochs batch seed record_every chunk validation".split()
#: Columns of a history that its picture shows, and of the table of methods that denoise.
CURVES = ["relative_error", "psnr", "loss"]
TABLE = "images noisy_psnr psnr ssim psnr_shifted ssim_shifted".split()

out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the results.",
)


def _options(texts: Mapping[str, str], owner: Any = None) -> list[click.Parameter]:
    """Return options, None where they are not given; help texts name the defaults of an owner."""
    flags = ("fresh", "warm_start", "shifts", "resume")
    return [
        click.Option(
            [(f"--{name}/--no-{name}" if name in flags else f"--{name}").replace("_", "-")],
            type=int if name in COUNTS else float if name in ("sigma", "budget") else None,
            # To click, a default of None is a value.
            default=None,
            help=f"{text}." if default is None else f"{text} [default: {default}].",
        )
        for name, text in {**COMMON, **texts}.items()
        for default in [getattr(owner, name, None)]
    ]


def _named(kind: str, name: str) -> Any:
    """Return the experiment of that kind and name."""
    experiments = names.list_experiments()
    if name not in experiments or experiments[name].kind != kind:
        raise InvalidArgument(
            f"unknown {kind} experiment {name!r}{names.nearest(name, experiments)}: `pudle list"
            " experiments` lists all of them"
        )
    return experiments[name]


def _carry_out(
    title: str, experiment: Any, out: Path, device: str, **options: Any
) -> dict[str, Any]:
    """Carry an experiment out with a progress bar, draw pictures, and return its summary."""
    with progress_bar(TimeRemainingColumn()) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, line: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{title}: {line}")

        result = experiment.run(out, device, show, **options)
    if result.status == "ok" and result.reason:
        echo(f"pudle: warning: {result.reason}", err=True)
    _draw_curve(out / "curve.png", result.rows)
    for name, array in result.arrays.items():
        if array.ndim > 1:
            # A title may hold what a file name had better not.
            own = re.sub(r"\W+", "-", name.replace("denoised", title))
            _draw(out / f"{own}.png", array)
    return {**result.summary, "status": result.status, "reason": result.reason}


def _finish(experiment: Any, device: str, summaries: Mapping[str, Any], out: Path) -> None:
    """Write options and results, and raise PudleError for a training that diverged."""
    content = strict({"options": experiment, "device": device, "results": summaries})
    write_atomically(out / "results.json", json.dumps(content, indent=1))
    for summary in summaries.values():
        if summary["status"] != "ok":
            raise PudleError(
                f"{summary['reason']}; the history up to there is in {out}, and --resume leads no"
                " further: start in another folder"
            )


@click.command("learn", params=_options(TRAINING | LEARN, LearningExperiment))
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
    experiment: str, out: Path, resume: bool, device: str, timeout: float, **options: Any
) -> None:
    """Learn a dictionary.

    The folder receives the history (history.csv), the dictionary (dictionary.npy), the options
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
    if not (experiment or options["dataset"]):
        raise InvalidArgument(
            "--dataset is missing: name one, e.g. --dataset sparse_gaussian, or give --experiment"
            " NAME"
        )
    chosen = _named("learning", experiment) if experiment else LearningExperiment("")
    given = {name: value for name, value in options.items() if value is not None}
    chosen = replace(chosen, **given)
    title = f"{chosen.estimator} with {chosen.optimizer}"
    with launched(check_device(device), timeout) as (processes, own_device):
        shared: dict[str, Any] = {"resume": bool(resume), "processes": processes}
        if processes.rank:
            # All processes refuse alike, and the first one says why.
            with contextlib.suppress(InvalidArgument, UnreadableResult):
                chosen.run(out, own_device, **shared)
            return
        summary = _carry_out(title, chosen, out, own_device, **shared)
        error = summary["dictionary_error"]
        shown = "" if math.isnan(error) else f", dictionary error {error:.4g}"
        took = f"{count(summary['steps'], 'step')} in {summary['seconds']:.1f} s"
        echo(f"{title}: {took}{shown}; results in {out}")
        _finish(chosen, own_device, {title: summary}, out)


@click.command("denoise", params=_options(DENOISE | TRAINING))
@out_option
@device_option
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="METHOD",
    help="Another package's method: BM3D, non-local means, wavelet or total variation; repeatable.",
)
def denoise_command(
    experiment: str, baselines: list[str], out: Path, resume: bool, device: str, **options: Any
) -> None:
    """Learn filters from noisy images and denoise others with them.

    Without --experiment the options change those of the experiment `denoising-backprop`, but for
    its algorithm: `fista`, whose step follows from the filters, runs on every image. Without
    folders the two photographs that ship inside scikit-learn are used, one to learn from and one to
    test on. Every method gets the same noisy images. The folder receives the history (history.csv,
    with the PSNR on images held out of the training images), the filters (dictionary.npy), options
    and results (results.json), pictures of the history (curve.png), of the filters from smooth to
    rough (filters.png) and of one test image (clean.png, noisy.png and one by the name of each
    method), and a checkpoint. Each row of the history costs one validation.

    \b
    Examples:
      pudle denoise --experiment denoising-small-backprop --baseline wavelet --out one
      pudle denoise --training-images BSD432 --test-images BSD68 --estimator alternating --out two
      pudle denoise --training-images SMALL --dataset 'noisy_crops(size=64)' --out three
    """
    import pandas as pd
    import torch

    from .denoising import DenoisingBaseline

    if number_launched() > 1:
        raise InvalidArgument(
            "denoise learns in one process: start it without torchrun, or learn with `pudle learn`"
        )
    chosen = _named("denoising", experiment or "denoising-backprop")
    if isinstance(chosen, DenoisingBaseline):
        raise InvalidArgument(
            f"experiment {experiment!r} learns nothing: give --baseline {chosen.baseline!r}"
        )
    given = {name: value for name, value in options.items() if value is not None}
    # The experiment's step is short enough for photographs; filters of smoother images grow so much
    # alike that it has to follow from them.
    training = {} if experiment else {"algorithm": "fista"}
    training |= {name: given.pop(name) for name in TRAINING.keys() & given.keys()}
    training = replace(chosen.training, **training)
    chosen = replace(chosen, training=training, **given)
    others = [DenoisingBaseline(name, chosen.test_images, chosen.sigma) for name in baselines]
    # The budget counts processor seconds, which would add up over threads.
    torch.set_num_threads(1)
    check_device(device)
    summaries = {chosen.method: _carry_out(chosen.method, chosen, out, device, resume=bool(resume))}
    for name, other in zip(baselines, others, strict=True):
        try:
            summaries[name] = _carry_out(name, other, out, device)
        except MissingDependency as error:
            echo(f"pudle: {name} is left out: {error}", err=True)
    table = pd.DataFrame(summaries, index=TABLE).T
    echo(table.to_string(na_rep="", float_format="{:.4g}".format))
    _finish(chosen, device, summaries, out)


def _draw_curve(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw the columns `CURVES` of a history that have two numbers at least."""
    import pandas as pd
    from matplotlib.figure import Figure

    history = pd.DataFrame(rows, columns=["step", *CURVES]).dropna(axis=1, thresh=2)
    if shown := [*history][1:]:
        figure = Figure(figsize=(6, 3 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), squeeze=False)
        history.plot(x="step", logy=CURVES[0] in shown, subplots=True, ax=axes)
        _save(path, figure.savefig)


def _draw(path: Path, array: Any) -> None:
    """Draw an image, filters (p, k, k), or a dictionary: filters (p, c, k, k) or atoms (m, p), as
    square images where they are.
    """
    from PIL import Image

    from .images import gray, mosaic

    if path.stem == "dictionary":
        side = math.isqrt(len(array))
        shape = (side, side) if side**2 == len(array) else (len(array), 1)
        array = array.mean(1) if array.ndim == 4 else array.T.reshape(-1, *shape)
    _save(path, Image.fromarray(gray(array) if array.ndim == 2 else mosaic(array)[0]).save)


def _save(path: Path, write: Callable[..., Any]) -> None:
    """Write a picture whole or not at all."""
    buffer = io.BytesIO()
    write(buffer, format="png")
    write_atomically(path, buffer.getvalue())
