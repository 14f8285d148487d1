"""`pudle list` and `pudle run`."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
import sys
from collections import Counter
from pathlib import Path

import click
from rich.progress import TimeRemainingColumn
from rich.table import Table

from .. import registry, specs
from ..errors import InvalidArgument, PudleError
from ..terminal import check_device, output, progress_bar
from .case import Case, Selection

PROFILES: dict[str, Selection] = registry.list_profiles()
KINDS = ("estimators", "datasets", "cases", "experiments")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.option(
    "--profile", type=click.Choice(list(PROFILES)), default="quick", show_default=True, help="Whose cases to list."
)
def list_command(kind: str | None, profile: str) -> None:
    """List the estimators, datasets, cases and experiments there are.

    \b
    Example:
      pudle list estimators
    """
    if kind in (None, "estimators"):
        rows = [
            (name, cls.computes, _arguments(cls), ", ".join(cls.aliases)) for name, cls in registry.list_estimators().items()
        ]
        _print_table("Estimators", ("estimator", "computes", "arguments", "also called"), rows)
    if kind in (None, "datasets"):
        _print_table(
            "Datasets", ("dataset", "arguments"), [(name, _arguments(cls)) for name, cls in registry.list_datasets().items()]
        )
    if kind in (None, "cases"):
        rows = [(case.name, case.dataset, case.algorithm, str(len(case.seeds))) for case in PROFILES[profile].cases]
        _print_table(f"Cases, profile {profile}", ("case", "dataset", "algorithm", "seeds"), rows)
    if kind is None:
        rows = [(study, str(len(members))) for study, members in registry.list_studies().items()]
        _print_table("Studies, whose members `pudle list experiments` lists", ("study", "experiments"), rows)
    if kind == "experiments":
        chosen = PROFILES[profile].experiments
        rows = [
            (name, study, found.kind, "yes" if name in chosen else "")
            for study, members in registry.list_studies().items()
            for name, found in members.items()
        ]
        _print_table("Experiments", ("experiment", "study", "kind", f"in profile {profile}"), rows)


def _print_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table whose first column, the names to type, is never cut; a pipe gets whole lines."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    output(width=200).print(table)


def _arguments(cls: type) -> str:
    parts = []
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        parts.append(field.name if field.default is dataclasses.MISSING else f"{field.name}={field.default!r}")
    return ", ".join(parts)


@click.command("run")
@click.option(
    "--profile", type=click.Choice(list(PROFILES)), default="quick", show_default=True, help="How much to measure."
)
@click.option("--estimator", "added", multiple=True, metavar="SPEC", help="Measure this estimator as well; repeatable.")
@click.option("--only", is_flag=True, help="Measure only the estimators named with --estimator.")
@click.option("--case", "patterns", multiple=True, metavar="GLOB", help="Measure only cases whose name matches; repeatable.")
@click.option("--dataset", "datasets", multiple=True, metavar="SPEC", help="Measure on this dataset as well; repeatable.")
@click.option(
    "--experiment", "experiments", multiple=True, metavar="GLOB",
    help="Carry out only experiments whose name matches, of any profile, and no cases unless these are named; repeatable.",
)  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=1), default=None, help="Processes for the scores [default: one per core]."
)
@click.option("--scores-only", is_flag=True, help="Leave out asv: no time, no memory, no git repository needed.")
@click.option(
    "--home", type=click.Path(path_type=Path), default=None, help="Where results go [default: .asv in the repository]."
)
def run_command(
    profile: str,
    added: tuple[str, ...],
    only: bool,
    patterns: tuple[str, ...],
    datasets: tuple[str, ...],
    experiments: tuple[str, ...],
    device: str,
    workers: int | None,
    scores_only: bool,
    home: Path | None,
) -> None:
    """Measure accuracy, time and memory.

    Scores that are stored already are not computed again, so an interrupted run goes on where it stopped. Installed
    plug-ins are measured along with the profile's own estimators.

    \b
    Examples:
      pudle run
      pudle run --profile default --case 'image_patches-*'
      pudle run --estimator 'truncated(window=20)' --scores-only
      pudle run --profile default --experiment 'denoising-*'
      pudle run --dataset 'image_patches(folder="photographs")' --case 'image_patches*'
    """
    selection = select(PROFILES[profile], added, only, patterns, datasets, device)
    narrowed = bool(only or patterns or datasets)
    selection = with_experiments(selection, experiments, narrowed)
    # These import torch and asv; what was wrong with the arguments has been said by now.
    from .run import execute

    check_device(device)
    with progress_bar(TimeRemainingColumn()) as progress:
        tasks: dict[str, object] = {}

        def show(stage: str, what: str, done: float, total: float) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total, description=f"{stage}: {what}"[:60])
            if progress.disable and done:
                click.echo(f"{stage} {done:g}/{total:g}: {what}", err=True)

        outcome = execute(selection, home=home, workers=workers or os.cpu_count() or 1, scores_only=scores_only, show=show)
    counts = Counter(record["status"] for record in outcome.records)
    asked = len(selection.cases) * len(selection.estimators)
    parts = [f"{len(outcome.records)} of {asked} scores computed now"] if asked else []
    parts += [f"{number} {status}" for status, number in sorted(counts.items())]
    if selection.experiments:
        parts.append(f"{outcome.experiments} of {len(selection.experiments)} experiments carried out now")
    click.echo(f"{', '.join(parts)}; results in {outcome.folder}")
    for line in outcome.findings:
        click.echo(f"  {line}")
    if outcome.broken:
        raise PudleError(f"{len(outcome.broken)} broken: {'; '.join(outcome.broken)}")


def select(
    profile: Selection,
    added: tuple[str, ...],
    only: bool,
    patterns: tuple[str, ...],
    datasets: tuple[str, ...],
    device: str,
) -> Selection:
    """Return the profile's selection, narrowed and widened as the user asked, with plug-ins taken in."""
    if only and not added:
        raise InvalidArgument("--only needs at least one --estimator SPEC to measure")
    named = tuple(specs.text(registry.make_estimator(spec)) for spec in added)
    estimators = named if only else (*profile.estimators, *plugins(), *named)
    everything = profile.cases + tuple(case for spec in datasets for case in cases_on(spec, profile))
    cases = everything
    if patterns:
        names = [case.name for case in everything]
        cases = tuple(case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns))
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                known = ", ".join(names)
                raise InvalidArgument(f"--case {pattern!r} matches no case of profile {profile.profile}: known are {known}")
    return dataclasses.replace(profile, cases=cases, estimators=tuple(dict.fromkeys(estimators)), device=device)


def with_experiments(selection: Selection, patterns: tuple[str, ...], narrowed: bool) -> Selection:
    """Return the selection with the experiments that were named.

    Where none were, those of the profile stay, unless the user narrowed the selection to some cases or estimators. Where
    some were, cases stay only if these were named as well.
    """
    if not patterns:
        return dataclasses.replace(selection, experiments=()) if narrowed else selection
    known = registry.list_experiments()
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise InvalidArgument(
                f"--experiment {pattern!r} matches no experiment: `pudle list experiments` lists all {len(known)} of them"
            )
    chosen = tuple(name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    return dataclasses.replace(selection, experiments=chosen, cases=selection.cases if narrowed else ())


def cases_on(spec: str, profile: Selection) -> tuple[Case, ...]:
    """Return the cases that a dataset of the user's own adds: ISTA, all its losses, the profile's seeds and depths.

    The data are drawn once here, so that a folder without images or a file that cannot be read is refused at once.
    """
    drawn = registry.make_dataset(spec)
    dataset = specs.text(drawn)
    # Without a loss named: each kind of problem has its own.
    drawn.problem()
    slug = re.sub(r"[^A-Za-z0-9.]+", "_", dataset).strip("_")
    like = profile.cases[0]
    return tuple(
        dataclasses.replace(
            like, name=f"{slug}-ista-{loss}", dataset=dataset, algorithm="ista", loss=loss, targets=("exact",)
        )
        for loss in drawn.losses
    )


def plugins() -> tuple[str, ...]:
    """Return the specs of installed estimators that are not this package's own and need no arguments."""
    found = []
    for name, cls in registry.list_estimators().items():
        if cls.__module__.partition(".")[0] == "pudle":
            continue
        try:
            found.append(specs.text(cls()))
        except TypeError:
            print(f"plug-in {name} needs arguments: name it with --estimator '{name}(...)'", file=sys.stderr)
    return tuple(found)
