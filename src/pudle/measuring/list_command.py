"""`pudle list`."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from .. import names
from ..errors import PudleError
from ..terminal import output, profile_option

KINDS = (*names.KINDS, "problems", "cases", "experiments")
#: What a title says beside the kind.
REMARKS = {
    "problems": ", which datasets make; of your own: --dataset FILE.py with a function `problem`",
    "studies": ", whose experiments `pudle list experiments` lists",
}
#: The columns of classes.
COLUMNS = ("name", "computes", "options", "also called", "origin")
Row = tuple[Any, ...]


@click.command("list")
@click.argument("kinds", nargs=-1, metavar="[KIND|FILE.py]...")
@profile_option
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
        elif kind in (*KINDS, "studies"):
            title = f"{kind.capitalize()}{REMARKS.get(kind, '')}"
            _print(title, _rows(kind, profile))
        else:
            hint = f"{names.nearest(kind, KINDS)}: give {', '.join(KINDS)} or a file.py"
            raise PudleError(f"unknown kind {kind!r}{hint}")
    if broken := names.broken(*names.KINDS, "problems", "profiles", "experiments"):
        raise PudleError(f"{len(broken)} broken: {'; '.join(broken)}")


def _rows(kind: str, profile: str) -> Iterator[Row]:
    """Yield the names of the columns of a table, then its rows."""
    selection, studies = names.list_profiles()[profile], names.list_studies()
    if kind == "cases":
        yield "case", "dataset", "algorithm", "seeds"
        for case in selection.cases:
            yield case.name, case.dataset, case.algorithm, len(case.seeds)
    elif kind == "studies":
        yield "study", "experiments"
        for study, experiments in studies.items():
            yield study, len(experiments)
    elif kind == "experiments":
        yield "experiment", "study", "kind", f"in profile {profile}"
        for study, experiments in studies.items():
            for name, experiment in experiments.items():
                selected = "yes" if name in selection.experiments else ""
                yield name, study, experiment.kind, selected
    else:
        yield COLUMNS
        entries = names.entries(kind)
        for name, cls in entries.items():
            yield name, *_described(cls), entries.origins[name]


def _print_file(path: Path) -> None:
    """Print the classes of each kind in a file, or refuse one without any."""
    classes = {kind: names.classes_in(kind, path) for kind in names.KINDS}
    if not any(classes.values()):
        bases = ", ".join(kind.base_class().__name__ for kind in names.KINDS.values())
        raise PudleError(
            f"{path} holds nothing that a spec can name: derive classes from pudle's {bases}"
        )
    for kind, those in classes.items():
        made = [names.class_in(kind, path, name) for name in those]
        rows = [(names.name_of(cls), *_described(cls), "file") for cls in made]
        if rows:
            _print(kind.capitalize(), [COLUMNS, *rows])


def _print(title: str, rows: Iterable[Row]) -> None:
    """Print a table without empty columns; the first, names to type, is never cut, and a pipe gets
    whole lines.
    """
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    table = Table(title=title, title_justify="left")
    for name, *_ in columns:
        table.add_column(name, no_wrap=not table.columns, overflow="fold")
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*map(escape, map(str, row)))
    output(width=200).print(table)


def _described(cls: Any) -> Row:
    """Return what an estimator computes, the options that a spec of a class can hold, with their
    defaults, and what else it is called.
    """
    shown = []
    for option in names.options(cls):
        default = option.default
        if option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        default = names.text(default) if dataclasses.is_dataclass(default) else default
        required = default is dataclasses.MISSING
        shown.append(option.name if required else f"{option.name}={default!r}")
    return getattr(cls, "computes", ""), ", ".join(shown), ", ".join(getattr(cls, "aliases", ()))
