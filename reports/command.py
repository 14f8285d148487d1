"""`pudle report`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

FORMATS = ("html", "markdown", "csv", "parquet", "latex", "svg", "pdf", "png")
DEFAULT = ("html", "markdown", "csv")


def _formats(context: click.Context, option: click.Parameter, values: Sequence[str]) -> Sequence[str]:
    """Split names joined by commas, and refuse unknown ones."""
    choice = click.Choice(FORMATS)
    names = [choice.convert(name.strip(), option, context) for value in values for name in value.split(",")]
    return list(dict.fromkeys(names)) or DEFAULT


@click.command("report")
@click.argument("results", nargs=-1, metavar="[A [B]]")
@click.option("--profile", default="quick", show_default=True, metavar="NAME", help="Profile: quick, default or paper.")
@click.option("--home", type=click.Path(path_type=Path), help="Folder with the results [default: .asv in the repository].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to [default: report, beside the results].")
@click.option(
    "--format", "formats", multiple=True, callback=_formats, metavar="NAME,...",
    help=f"Formats to write: {', '.join(FORMATS)}; repeatable [default: {', '.join(DEFAULT)}]. svg, pdf and png draw every "
    "figure into a file of its own, which html and markdown then link to.",
)  # fmt: skip
def report_command(
    results: Sequence[str], profile: str, home: Path | None, out: Path | None, formats: Sequence[str]
) -> None:
    """Write the report as a page, as tables or as figures; for A and B, compare them side by side.

    A and B are folders with results, or commits whose results are in the home folder. The command prints the path of each
    file, the page's last. It exits with 2 if a measurement broke or a file is damaged; the report is still
    written without it and says so.

    \b
    Examples:
      pudle report
      pudle report --profile default --format latex,pdf --out paper/
      pudle report main HEAD
      pudle report laptop/.asv/quick server/.asv/quick --out both/
    """
    # These import torch and the plotting libraries, which --help does not need.
    from pudle.errors import InvalidArgument
    from pudle.files import write_atomically
    from pudle.reports.compare.page import SideBySide
    from pudle.reports.compare.sides import load_side, repository_root
    from pudle.reports.learning.sections import broken_experiments
    from pudle.reports.load import load
    from pudle.reports.page import ENDINGS, FIGURE_FORMATS, FIGURES, Report
    from pudle.reports.tables import broken

    if len(results) > 2:
        raise InvalidArgument(f"{len(results)} results given: report shows one, or two side by side")
    root = repository_root()
    home = home or root / ".asv"
    sides = [load_side(name, root, home, profile) for name in results] or [load(home, profile)]
    linked = [name for name in FIGURE_FORMATS if name in formats]
    reports = [Report.of(side, linked, os.cpu_count() or 1) for side in sides]
    made: Any = reports[0] if len(sides) == 1 else SideBySide((reports[0], reports[1]), (results[0], results[1]), linked)
    if missing := [name for name in formats if name in ENDINGS and not hasattr(made, name)]:
        raise InvalidArgument(f"--format {missing[0]} is for one result: leave it out for two side by side")
    folder = out or home / profile / ("report" if len(sides) == 1 else "report-pair")
    # Everything is made before anything is written, so that an error leaves the last report as it was.
    files = {folder / f"report.{ending}": getattr(made, name)() for name, ending in ENDINGS.items() if name in formats}
    drawn = {folder / FIGURES / name: content for name, content in made.figure_files()}
    for path, content in (drawn | files).items():
        write_atomically(path, content)
    failed = dict.fromkeys(name for find in (broken, broken_experiments) for side in sides for name in find(side))
    if failed:
        click.echo(f"something broke in {', '.join(failed)}: see 'Skipped, refused or failed' in the report", err=True)
    damaged = [line for side in sides for line in side.damaged]
    for line in damaged:
        click.echo(f"left out: {line}", err=True)
    for path in [folder / FIGURES, *files] if drawn else files:
        click.echo(path)
    if failed or damaged:
        raise click.exceptions.Exit(2)
