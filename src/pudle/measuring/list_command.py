"""`pudle list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
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
            _print_file(kind)
        elif kind in names.KINDS:
            entries = names.entries(kind)
            _print_classes(
                kind, [(name, cls, entries.origins[name]) for name, cls in entries.items()]
            )
        elif kind == "problems":
            entries = names.entries(kind)
            rows = [
                (cls.__name__, _options(cls), entries.origins[name])
                for name, cls in entries.items()
            ]
            _print_table(
                "Problems, which datasets make; of your own: --dataset FILE.py with a function"
                " `problem`",
                ("problem", "options", "origin"),
                rows,
            )
        elif kind == "cases":
            _print_cases(profile)
        elif kind in ("experiments", "studies"):
            _print_experiments(kind, profile)
        else:
            raise PudleError(
                f"unknown kind {kind!r}{names.nearest(kind, KINDS)}: give {', '.join(KINDS)} or a"
                " file.py"
            )
    broken = names.broken(*names.KINDS, "problems", "profiles", "experiments")
    if broken:
        raise PudleError(f"{len(broken)} broken: {'; '.join(broken)}")


def _print_classes(kind: str, rows: Iterable[tuple[str, Any, str]]) -> None:
    """Print names, options and origins of classes, and of estimators what they compute and what
    else they are called.
    """
    if kind == "estimators":
        columns: tuple[str, ...] = ("estimator", "computes", "options", "also called", "origin")
        cells = [
            (name, cls.computes, _options(cls), ", ".join(cls.aliases), origin)
            for name, cls, origin in rows
        ]
        _print_table("Estimators", columns, cells)
    else:
        columns = (names.KINDS[kind].noun, "options", "origin")
        _print_table(
            kind.capitalize(),
            columns,
            [(name, _options(cls), origin) for name, cls, origin in rows],
        )


def _print_file(path: str) -> None:
    """Print the classes of each kind in a file, or refuse one without any."""
    found = {kind: names.classes_in(kind, Path(path).expanduser()) for kind in names.KINDS}
    if not any(found.values()):
        bases = ", ".join(kind.base_name for kind in names.KINDS.values())
        raise PudleError(
            f"{path} holds nothing that a spec can name: derive classes from pudle's {bases}"
        )
    for kind, classes in found.items():
        if classes:
            _print_classes(
                kind,
                [
                    (
                        names.name_of(cls),
                        names.class_in(kind, Path(path).expanduser(), name),
                        "file",
                    )
                    for name, cls in classes.items()
                ],
            )


def _print_cases(profile: str) -> None:
    cases = names.list_profiles()[profile].cases
    rows = [(case.name, case.dataset, case.algorithm, str(len(case.seeds))) for case in cases]
    _print_table(f"Cases, profile {profile}", ("case", "dataset", "algorithm", "seeds"), rows)


def _print_experiments(kind: str, profile: str) -> None:
    studies = names.list_studies().items()
    if kind == "studies":
        counts = [(study, str(len(experiments))) for study, experiments in studies]
        _print_table(
            "Studies, whose experiments `pudle list experiments` lists",
            ("study", "experiments"),
            counts,
        )
        return
    chosen = names.list_profiles()[profile].experiments
    rows = [
        (name, study, experiment.kind, "yes" if name in chosen else "")
        for study, experiments in studies
        for name, experiment in experiments.items()
    ]
    _print_table("Experiments", ("experiment", "study", "kind", f"in profile {profile}"), rows)


def _print_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table whose first column, the names to type, is never cut; a pipe gets whole lines."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    output(width=200).print(table)


def _options(cls: type) -> str:
    """Return the options that a spec of a class can hold, with their defaults."""
    fields = names.options(cls) if dataclasses.is_dataclass(cls) else ()
    return ", ".join(_option(field) for field in fields)


def _option(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return (
            field.name
            if field.default_factory is dataclasses.MISSING
            else f"{field.name}={field.default_factory()!r}"
        )
    default = names.text(field.default) if hasattr(field.default, "name") else field.default
    return f"{field.name}={default!r}"
