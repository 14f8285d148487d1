"""`pudle report`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

FORMATS = ("html", "markdown", "csv", "parquet", "latex", "svg", "pdf", "png")
DEFAULT = ("html", "markdown", "csv")
#: Endings of the files by format, in the order in which they are written; the page comes last.
ENDINGS = {"markdown": "md", "csv": "csv", "parquet": "parquet", "latex": "tex", "html": "html"}


def _formats(
    context: click.Context, option: click.Parameter, values: Sequence[str]
) -> Sequence[str]:
    """Split names joined by commas, and refuse unknown ones."""
    choice = click.Choice(FORMATS)
    names = [
        choice.convert(name.strip(), option, context)
        for value in values
        for name in value.split(",")
    ]
    return list(dict.fromkeys(names)) or DEFAULT


@click.command("report")
@click.argument("results", nargs=-1, metavar="[RESULTS]...")
@click.option(
    "--profile",
    default="quick",
    show_default=True,
    metavar="NAME",
    help="Profile: quick, default or paper.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Folder with the results [default: .asv in the repository].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=(
        "Folder to write to [default: report, beside the results; of several, report-runs in the"
        " home folder]."
    ),
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    callback=_formats,
    metavar="NAME,...",
    help=(
        f"Formats to write: {', '.join(FORMATS)}; repeatable [default: {', '.join(DEFAULT)}]. svg,"
        " pdf and png draw every figure into a file of its own, with its data as CSV; markdown"
        " then shows it."
    ),
)
@click.option(
    "--index",
    is_flag=True,
    help="Write a page about every result in the folders RESULTS, with links to reports.",
)
def report_command(
    results: Sequence[str],
    profile: str,
    home: Path | None,
    out: Path | None,
    formats: Sequence[str],
    index: bool,
) -> None:
    """Write the report as a page, as tables or as figures; several RESULTS stand side by side in
    one page.

    RESULTS are folders with results, or commits whose results are in the home folder. The command
    prints the path of each file, the page's last. It exits with 2 if a measurement broke or a file
    is damaged; the report is still written without it and says so.

    \b
    Examples:
      pudle report
      pudle report --profile default --format latex,pdf --out paper/
      pudle report v0.1 v0.2 HEAD
      pudle report laptop/.asv/quick server/.asv/quick --out both/
      pudle report --index results/
    """
    # These import torch, which --help does not need.
    from pudle.errors import InvalidArgument, UnreadableResult
    from pudle.files import read_each, write_atomically
    from pudle.reports.compare.sides import folder_of, load_side, repository_root
    from pudle.reports.load import load
    from pudle.reports.page import index as of_folder
    from pudle.reports.page.page import Page
    from pudle.reports.report import FIGURE_FORMATS, FIGURES, Report
    from pudle.reports.runs import Runs
    from pudle.reports.scope import pending_sentence

    root = repository_root()
    home = home or root / ".asv"
    damaged: list[str] = []
    if index:
        folders = [Path(name) for name in results] or [home]
        place = (out or folders[0]) / "index.html"
        write_atomically(place, of_folder.html(folders, place.parent, damaged))
        _finish(damaged, [place])
        return
    loaded = read_each(results, lambda name: (name, load_side(name, root, home, profile)), damaged)
    if damaged and not loaded:
        raise UnreadableResult("; ".join(damaged))
    sides = [side for _, side in loaded] or [load(home, profile)]
    linked = [name for name in FIGURE_FORMATS if name in formats]
    reports, names = (
        [Report.of(side, linked) for side in sides],
        unique([name for name, _ in loaded] or [sides[0].profile]),
    )
    made: Any = reports[0] if len(sides) == 1 else Runs(reports, names)
    if missing := [
        name
        for name in formats
        if name not in ("html", *FIGURE_FORMATS) and not hasattr(made, name)
    ]:
        raise InvalidArgument(
            f"--format {missing[0]} is for one result: leave it out for several side by side"
        )
    own = folder_of(results[0], profile) if len(results) == 1 else None
    folder = out or (own or home / profile) / ("report-runs" if len(results) > 1 else "report")
    # Everything is made before anything is written, so that an error leaves the last report as it
    # was.
    makers = {
        name: Page(reports, names).html if name == "html" else getattr(made, name)
        for name in ENDINGS
        if name in formats
    }
    files = {folder / f"report.{ENDINGS[name]}": make() for name, make in makers.items()}
    drawn = {
        folder / FIGURES / name: content
        for report in reports[:1]
        for name, content in report.figure_files()
    }
    for path, content in (drawn | files).items():
        write_atomically(path, content)
    if failed := list(dict.fromkeys(name for report in reports for name in report.broken)):
        click.echo(
            f"something broke in {', '.join(failed)}: see 'Skipped, refused or failed' in the"
            " report",
            err=True,
        )
    for sentence in filter(None, (pending_sentence(side) for side in sides)):
        click.echo(sentence, err=True)
    damaged += [line for side in sides for line in side.damaged]
    _finish(damaged, [folder / FIGURES, *files] if drawn else files)
    if failed:
        raise click.exceptions.Exit(2)


def _finish(damaged: Iterable[str], written: Iterable[Path]) -> None:
    """Print what is left out and what was written; anything left out is exit code 2."""
    for line in damaged:
        click.echo(f"left out: {line}", err=True)
    for path in written:
        click.echo(path)
    if damaged:
        raise click.exceptions.Exit(2)


def unique(names: Sequence[str]) -> list[str]:
    """Return names with a number behind those that occur twice."""
    counted = list(names)
    return [
        name if counted.count(name) == 1 else f"{name} ({counted[: place + 1].count(name)})"
        for place, name in enumerate(counted)
    ]
