"""`pudle list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from .. import names
from ..errors import PudleError
from ..terminal import PROFILES, output

KINDS = (*names.KINDS, "problems", "cases", "experiments")


@click.command("list")
@click.argument("kinds", nargs=-1, metavar="[KIND|FILE.py]...")
@click.option(
    "--profile",
    type=PROFILES,
    default="quick",
    show_default=True,
    help="Profile whose cases to list.",
)
def list_command(kinds: tuple[str, ...], profile: str) -> None:
    """List what specs can name, with options, defaults and origin; cases and experiments; and
    broken plug-ins.

    KIND is estimators, datasets, algorithms, thresholding, optimizers, schedules, problems (which
    datasets make), cases or experiments; without any, all are listed, but of experiments only the
    studies. Of a FILE.py, the classes that specs can name are listed.

    \b
    Examples:
      pudle list estimators
      pudle list my_file.py
    """
    for kind in kinds or (*names.KINDS, "problems", "cases", "studies"):
        if kind.endswith(".py"):
            _print_file(Path(kind).expanduser())
        elif kind in (*names.KINDS, "problems"):
            entries = names.entries(kind)
            _print_classes(
                kind, [(name, cls, entries.origins[name]) for name, cls in entries.items()]
            )
        elif kind in (*KINDS, "studies"):
            _print_table(*_table(kind, profile))
        else:
            raise PudleError(
                f"unknown kind {kind!r}{names.nearest(kind, KINDS)}: give {', '.join(KINDS)} or a"
                " file.py"
            )
    broken = names.broken(*names.KINDS, "problems", "profiles", "experiments")
    if broken:
        raise PudleError(f"{len(broken)} broken: {'; '.join(broken)}")


def _print_classes(kind: str, classes: Iterable[tuple[str, Any, str]]) -> None:
    """Print names, options and origins of classes, and of estimators what they compute and what
    else they are called.
    """
    rows = [
        {"name": name, "computes": getattr(cls, "computes", ""), "options": _options(cls)}
        | {"also called": ", ".join(getattr(cls, "aliases", ())), "origin": origin}
        for name, cls, origin in classes
    ]
    columns = [name for name in rows[0] if any(row[name] for row in rows)] if rows else ["name"]
    title = kind.capitalize()
    if kind == "problems":
        title += ", which datasets make; of your own: --dataset FILE.py with a function `problem`"
    _print_table(title, columns, [[row[name] for name in columns] for row in rows])


def _print_file(path: Path) -> None:
    """Print the classes of each kind in a file, or refuse one without any."""
    classes = {kind: names.classes_in(kind, path) for kind in names.KINDS}
    if not any(classes.values()):
        bases = ", ".join(kind.base_class().__name__ for kind in names.KINDS.values())
        raise PudleError(
            f"{path} holds nothing that a spec can name: derive classes from pudle's {bases}"
        )
    for kind, those in classes.items():
        rows = [
            (names.name_of(cls), names.class_in(kind, path, name), "file")
            for name, cls in those.items()
        ]
        if rows:
            _print_classes(kind, rows)


def _table(kind: str, profile: str) -> tuple[str, Sequence[str], list[Sequence[str]]]:
    """Return title, columns and rows of cases, experiments or studies."""
    studies, selection = names.list_studies().items(), names.list_profiles()[profile]
    if kind == "cases":
        cases = [
            (case.name, case.dataset, case.algorithm, str(len(case.seeds)))
            for case in selection.cases
        ]
        return f"Cases, profile {profile}", ("case", "dataset", "algorithm", "seeds"), [*cases]
    if kind == "studies":
        title = "Studies, whose experiments `pudle list experiments` lists"
        counts = [(study, str(len(experiments))) for study, experiments in studies]
        return title, ("study", "experiments"), [*counts]
    rows = [
        (name, study, experiment.kind, "yes" if name in selection.experiments else "")
        for study, experiments in studies
        for name, experiment in experiments.items()
    ]
    return "Experiments", ("experiment", "study", "kind", f"in profile {profile}"), [*rows]


def _print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column, names to type, is never cut; a pipe gets whole lines."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    output(width=200).print(table)


def _options(cls: type) -> str:
    """Return the options that a spec of a class can hold, with their defaults."""
    shown = []
    for option in names.options(cls):
        default = option.default
        if option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        default = names.text(default) if hasattr(default, "name") else default
        required = default is dataclasses.MISSING
        shown.append(option.name if required else f"{option.name}={default!r}")
    return ", ".join(shown)
