"""`pudle run`."""

import math
import time
from pathlib import Path
from typing import Any

import click
from rich.progress import TimeRemainingColumn

from .. import names
from ..errors import PudleError
from ..terminal import check_device, echo, home_option, profile_option, progress_bar
from .axis_options import selection_options, several

#: Least seconds between two lines about the progress of a run whose errors go to a file or a pipe.
LOG_SECONDS = 1.0


@click.command("run")
@profile_option
@selection_options
@several(
    "experiment",
    "experiments",
    "GLOB",
    "Carry out only experiments whose name matches, of any profile, and no cases unless you name"
    " some",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes for the scores, at most and by default one per core.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help=(
        "Time limit of one estimator on one case, and of experiments where it exceeds theirs"
        " [default: the profile's]."
    ),
)
@click.option("--scores-only", is_flag=True, help="Measure no time and no memory.")
@click.option(
    "--again", is_flag=True, help="Measure time and memory anew, also where they are stored."
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help=(
        "Dask cluster for scores and experiments: tcp://HOST:PORT, local:N workers, or"
        " slurm:FILE.yaml; see docs/scale.md."
    ),
)
@home_option
def run_command(
    profile: str,
    workers: int | None,
    scores_only: bool,
    again: bool,
    scheduler: str | None,
    home: Path | None,
    **options: Any,
) -> None:
    """Measure accuracy, time and memory.

    What is stored already is not measured again, so an interrupted run continues where it stopped.
    Installed plug-ins are measured together with the profile's own estimators; one that is broken
    costs only itself. Datasets, algorithms and losses that you name are crossed, and what does not
    fit is reported as unsupported. A SPEC is a name, name(options), path/file.py or
    path/file.py:Class(options); `pudle list` shows the names and their options.

    \b
    Examples:
      pudle run
      pudle run --profile default --case 'image_patches-*'
      pudle run --estimator 'truncated(window=20)' --scores-only
      pudle run --profile default --experiment 'denoising-*'
      pudle run --dataset 'image_patches(folder="photographs")' --algorithm fista --depth 100
      pudle run --dataset 'array(path="data.csv")' --algorithm 'own.py:HeavyBall(beta=0.9)'
      pudle run --profile paper --scheduler tcp://head:8786 --scores-only
    """
    # Imported late, because each takes seconds: help texts need none, and wrong arguments are
    # refused before the second.
    from .selection import select

    selection = select(names.list_profiles()[profile], home=home, **options)
    from .run import MOST_NAMES, by_reason, execute

    if not (scheduler and scores_only):
        check_device(selection.device)
    with progress_bar(TimeRemainingColumn()) as bar:
        task, logged = bar.add_task("", total=None), -math.inf

        def show(done: int, total: int, line: str) -> None:
            nonlocal logged
            bar.update(task, completed=done, total=total, description=line[:60])
            # A log shows that the run goes on, and how each stage ends, in few lines.
            if bar.disable and (done == total or time.monotonic() > logged + LOG_SECONDS):
                logged = time.monotonic()
                echo(f"{done}/{total}: {line}", err=True)

        summary = execute(
            selection,
            home=home,
            workers=workers,
            scores_only=scores_only,
            again=again,
            progress=show,
            scheduler=scheduler,
            say=lambda line: bar.console.print(line, markup=False, highlight=False, soft_wrap=True),
        )
    echo(f"{', '.join(summary.counts)}; results in {summary.folder}")
    for finding in summary.findings:
        echo(f"  {finding}")
    reasons = by_reason(summary.broken)
    if (more := len(reasons) - MOST_NAMES) > 0:
        reasons[MOST_NAMES:] = [f"and {more} more, which `pudle report` lists"]
    plugins = names.broken("estimators", "datasets", "algorithms", "thresholding", "experiments")
    if number := len(summary.broken) + len(plugins):
        raise PudleError(f"{number} broken: {'; '.join([*reasons, *plugins])}")
