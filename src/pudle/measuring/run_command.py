"""`pudle run`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.progress import TaskID, TimeRemainingColumn

from .. import registry
from ..errors import PudleError
from ..terminal import PROFILES, check_device, progress_bar


@click.command("run")
@click.option("--profile", type=PROFILES, default="quick", show_default=True, help="How much to measure.")
@click.option("--estimator", "estimators", multiple=True, metavar="SPEC", help="Measure this estimator as well; repeatable.")
@click.option("--only", is_flag=True, help="Measure only the estimators named with --estimator.")
@click.option("--case", "cases", multiple=True, metavar="GLOB", help="Measure only cases whose name matches; repeatable.")
@click.option("--dataset", "datasets", multiple=True, metavar="SPEC", help="Measure on this dataset as well; repeatable.")
@click.option(
    "--experiment", "experiments", multiple=True, metavar="GLOB",
    help="Carry out only experiments whose name matches, of any profile, and no cases unless you name some; repeatable.",
)  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Device to measure on.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes for the scores, at most and by default one per core.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="Time limit of one estimator on one case, and of experiments where it exceeds theirs [default: the profile's].",
)  # fmt: skip
@click.option("--scores-only", is_flag=True, help="Leave out asv: no time, no memory, no git repository needed.")
@click.option("--home", type=click.Path(path_type=Path), help="Where results go [default: .asv in the repository].")
def run_command(profile: str, workers: int | None, scores_only: bool, home: Path | None, **options: Any) -> None:
    """Measure accuracy, time and memory.

    Scores that are stored already are not computed again, so an interrupted run continues where it stopped.
    Installed plug-ins are measured together with the profile's own estimators; one that is broken costs only itself.

    \b
    Examples:
      pudle run
      pudle run --profile default --case 'image_patches-*'
      pudle run --estimator 'truncated(window=20)' --scores-only
      pudle run --profile default --experiment 'denoising-*'
      pudle run --dataset 'image_patches(folder="photographs")' --case 'image_patches*'
    """
    # Imported late, because each takes seconds: help texts need none, and wrong arguments are refused before the second.
    from .selection import select

    selection = select(registry.list_profiles()[profile], home=home, **options)
    from .run import execute

    check_device(selection.device)
    cores = os.cpu_count() or 1
    with progress_bar(TimeRemainingColumn()) as progress:
        bars: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, line: str) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, total=total, description=f"{stage}: {line}"[:60])
            if progress.disable and done:
                click.echo(f"{stage} {done}/{total}: {line}", err=True)

        summary = execute(selection, home=home, workers=min(workers or cores, cores), scores_only=scores_only, show=show)
    scores, pairs, experiments = summary.records["score"], selection.pairs, selection.experiments
    parts = [f"{len(scores)} of {len(pairs)} scores computed now"] if pairs else []
    parts += [f"{number} {status}" for status, number in sorted(Counter(record["status"] for record in scores).items())]
    if experiments:
        parts.append(f"{len(summary.records['experiment'])} of {len(experiments)} experiments carried out now")
    click.echo(f"{', '.join(parts)}; results in {summary.folder}")
    for finding in summary.findings:
        click.echo(f"  {finding}")
    broken = [*summary.broken, *registry.broken("estimators", "datasets", "algorithms", "thresholding", "experiments")]
    if broken:
        raise PudleError(f"{len(broken)} broken: {'; '.join(broken)}")
