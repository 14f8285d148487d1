"""`pudle report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pudle.reports.load import Results


@click.command("report")
@click.argument("results", nargs=-1, metavar="[A [B]]")
@click.option("--profile", default="quick", show_default=True, metavar="NAME", help="Profile: quick, default or paper.")
@click.option("--home", type=click.Path(path_type=Path), help="Folder with the results [default: .asv in the repository].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to [default: report, beside the results].")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["html", "markdown", "csv", "parquet", "latex", "figures"]),
    multiple=True,
    help="Format to write; repeatable [default: html, markdown, csv]. html and markdown include all figures as files.",
)
def report_command(
    results: tuple[str, ...], profile: str, home: Path | None, out: Path | None, formats: tuple[str, ...]
) -> None:
    """Write the report as a page, Markdown, CSV, Parquet, LaTeX or figures; for A and B, compare them side by side.

    A and B are folders with results, or commits whose results are in the home folder. The command prints the path of each
    file, the page's last. It exits with 2 if a measurement broke; the report is still written and says what broke.

    \b
    Examples:
      pudle report
      pudle report --profile default --format html --format latex --out paper/
      pudle report main HEAD
      pudle report laptop/.asv/quick server/.asv/quick --out both/
    """
    # These import torch and the plotting libraries, which --help does not need.
    from pudle.errors import InvalidArgument, PudleError
    from pudle.files import write_atomically
    from pudle.reports.compare.page import SideBySide
    from pudle.reports.learning.sections import broken_experiments
    from pudle.reports.page import FIGURES, FORMATS, ILLUSTRATED, Report
    from pudle.reports.tables import broken

    if len(results) > 2:
        raise InvalidArgument(f"{len(results)} results given: report shows one, or two side by side")
    root = _root()
    home = root / ".asv" if home is None else home
    wanted = formats or ("html", "markdown", "csv")
    sides = [_load(name, home, profile, root) for name in results or [None]]
    reports = [Report.of(side) for side in sides]
    made: Any = reports[0]
    makers: dict[str, Any] = dict(FORMATS)
    if len(sides) == 2:
        made = SideBySide((reports[0], reports[1]), (results[0], results[1]))
        makers = {name: (getattr(SideBySide, name), FORMATS[name][1]) for name in ("markdown", "csv", "html")}
        for name in wanted:
            if name not in (*makers, "figures"):
                raise InvalidArgument(
                    f"--format {name} is for one result: two side by side are html, markdown, csv or figures"
                )
    folder = home / profile / ("report" if len(sides) == 1 else "report-pair") if out is None else out
    # Everything is made before anything is written, so that an error leaves the last report as it was.
    files = {folder / f"report.{ending}": make(made) for kind, (make, ending) in makers.items() if kind in wanted}
    drawn: dict[Path, bytes] = {}
    if {"figures", *ILLUSTRATED} & set(wanted):
        drawn = {folder / FIGURES / figure: content for figure, content in made.figure_files()}
    try:
        for path, content in (drawn | files).items():
            write_atomically(path, content)
    except OSError as error:
        raise PudleError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from None
    failed = dict.fromkeys(name for find in (broken, broken_experiments) for side in sides for name in find(side))
    if failed:
        click.echo(f"something broke in {', '.join(failed)}: see 'Skipped, refused or failed' in the report", err=True)
    for path in [folder / FIGURES] * bool(drawn) + list(files):
        click.echo(path)
    if failed:
        sys.exit(2)


def _root() -> Path:
    """Return the repository around the current folder, or the current folder if there is none."""
    from pudle.measuring.provenance import NoRepository, repository

    try:
        return repository(Path.cwd())
    except NoRepository:
        return Path()


def _load(name: str | None, home: Path, profile: str, root: Path) -> Results:
    """Read the results of a folder or a commit, or those of the home folder if there is no name."""
    from pudle.reports.compare.sides import commit_named, folder_of, load_commit, load_folder
    from pudle.reports.load import load

    if name is None:
        return load(home, profile)
    folder = folder_of(name, profile)
    return load_folder(folder) if folder else load_commit(commit_named(name, root), name, home, profile)
