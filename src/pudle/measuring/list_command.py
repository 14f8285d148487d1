"""`pudle list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import click
from rich.table import Table

from .. import registry
from ..errors import PudleError
from ..terminal import PROFILES, output

KINDS = click.Choice(["estimators", "datasets", "cases", "experiments"])


@click.command("list")
@click.argument("kind", type=KINDS, required=False)
@click.option("--profile", type=PROFILES, default="quick", show_default=True, help="Profile whose cases to list.")
def list_command(kind: str | None, profile: str) -> None:
    """List the known estimators, datasets, cases and experiments, and the plug-ins that cannot be used.

    \b
    Example:
      pudle list estimators
    """
    chosen, studies = registry.list_profiles()[profile], registry.list_studies().items()
    if kind in (None, "estimators"):
        estimators = registry.list_estimators().items()
        rows = [(name, cls.computes, _arguments(cls), ", ".join(cls.aliases)) for name, cls in estimators]
        _print_table("Estimators", ("estimator", "computes", "arguments", "also called"), rows)
    if kind in (None, "datasets"):
        datasets = registry.list_datasets().items()
        _print_table("Datasets", ("dataset", "arguments"), [(name, _arguments(cls)) for name, cls in datasets])
    if kind in (None, "cases"):
        cases = [(case.name, case.dataset, case.algorithm, str(len(case.seeds))) for case in chosen.cases]
        _print_table(f"Cases, profile {profile}", ("case", "dataset", "algorithm", "seeds"), cases)
    if kind is None:
        counts = [(study, str(len(experiments))) for study, experiments in studies]
        _print_table("Studies, whose experiments `pudle list experiments` lists", ("study", "experiments"), counts)
    if kind == "experiments":
        rows = [
            (name, study, experiment.kind, "yes" if name in chosen.experiments else "")
            for study, experiments in studies
            for name, experiment in experiments.items()
        ]
        _print_table("Experiments", ("experiment", "study", "kind", f"in profile {profile}"), rows)
    broken = registry.broken("estimators", "datasets", "algorithms", "thresholding", "profiles", "experiments")
    if broken:
        raise PudleError(f"{len(broken)} broken: {'; '.join(broken)}")


def _print_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table whose first column, the names to type, is never cut; a pipe gets whole lines."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    output(width=200).print(table)


def _arguments(cls: type) -> str:
    """Return the fields of a class with their defaults."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    required = dataclasses.MISSING
    return ", ".join(f.name if f.default is required else f"{f.name}={f.default!r}" for f in fields)
