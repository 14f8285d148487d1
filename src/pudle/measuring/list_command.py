"""`pudle list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import click
from rich.table import Table

from .. import registry
from ..terminal import output

KINDS = ("estimators", "datasets", "cases", "experiments")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.option(
    "--profile", type=click.Choice(list(registry.list_profiles())), default="quick", show_default=True,
    help="Profile whose cases to list.",
)  # fmt: skip
def list_command(kind: str | None, profile: str) -> None:
    """List the known estimators, datasets, cases and experiments.

    \b
    Example:
      pudle list estimators
    """
    chosen = registry.list_profiles()[profile]
    if kind in (None, "estimators"):
        _print_table(
            "Estimators",
            ("estimator", "computes", "arguments", "also called"),
            (
                (name, cls.computes, _arguments(cls), ", ".join(cls.aliases))
                for name, cls in registry.list_estimators().items()
            ),
        )
    if kind in (None, "datasets"):
        rows = ((name, _arguments(cls)) for name, cls in registry.list_datasets().items())
        _print_table("Datasets", ("dataset", "arguments"), rows)
    if kind in (None, "cases"):
        columns = ("case", "dataset", "algorithm", "seeds")
        cases = ((case.name, case.dataset, case.algorithm, str(len(case.seeds))) for case in chosen.cases)
        _print_table(f"Cases, profile {profile}", columns, cases)
    if kind is None:
        studies = ((study, str(len(members))) for study, members in registry.list_studies().items())
        _print_table("Studies, whose experiments `pudle list experiments` lists", ("study", "experiments"), studies)
    if kind == "experiments":
        columns = ("experiment", "study", "kind", f"in profile {profile}")
        experiments = (
            (name, study, experiment.kind, "yes" if name in chosen.experiments else "")
            for study, members in registry.list_studies().items()
            for name, experiment in members.items()
        )
        _print_table("Experiments", columns, experiments)


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
    return ", ".join(
        field.name if field.default is dataclasses.MISSING else f"{field.name}={field.default!r}" for field in fields
    )
