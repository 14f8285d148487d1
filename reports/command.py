"""`pudle report`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pudle.reports.load import Results


@click.command("report")
@click.argument("results", nargs=-1, metavar="[A [B]]")
@click.option("--profile", default="quick", show_default=True, metavar="NAME", help="quick, default or paper.")
@click.option(
    "--home", type=click.Path(path_type=Path), default=None, help="Where results are [default: .asv in the repository]."
)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Where to write [default: report beside them].")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["html", "markdown", "csv", "parquet", "latex", "figures"]),
    multiple=True,
    help="What to write; repeatable [default: html, markdown, csv]. The first two bring all figures as SVG, PDF and CSV.",
)
def report_command(
    results: tuple[str, ...], profile: str, home: Path | None, out: Path | None, formats: tuple[str, ...]
) -> None:
    """Write the report: page, Markdown, figures, CSV, Parquet or LaTeX; of A and B side by side where both are given.

    A and B are folders with results, or commits that the home has results of. Prints the path of each file, the page's last.
    Exits with 2 when a measurement broke; the report is written all the same and says what broke.

    \b
    Examples:
      pudle report
      pudle report --profile default --format html --format latex --out paper/
      pudle report main HEAD
      pudle report laptop/.asv/quick server/.asv/quick --out both/
    """
    # These import torch and the plotting libraries, which --help can do without.
    from pudle.errors import InvalidArgument, PudleError
    from pudle.files import write_atomically
    from pudle.reports.compare import page as pair
    from pudle.reports.learning.sections import broken_experiments
    from pudle.reports.page import FIGURES, FORMATS, ILLUSTRATED, Report
    from pudle.reports.tables import broken

    if len(results) > 2:
        raise InvalidArgument(f"{len(results)} results given: report shows one, or two side by side")
    home = _home() if home is None else home
    wanted = formats or ("html", "markdown", "csv")
    sides = [_load(name, home, profile) for name in results] or [_load(None, home, profile)]
    made: Report | pair.SideBySide
    if len(sides) == 1:
        made = Report.of(sides[0])
        makers: dict[str, tuple[Callable, str]] = dict(FORMATS)
    else:
        made = pair.SideBySide((Report.of(sides[0]), Report.of(sides[1])), (results[0], results[1]))
        makers = {
            "markdown": (pair.SideBySide.markdown, "md"),
            "csv": (pair.SideBySide.csv, "csv"),
            "html": (pair.SideBySide.html, "html"),
        }
        unknown = [name for name in wanted if name not in makers and name != "figures"]
        if unknown:
            raise InvalidArgument(
                f"--format {unknown[0]} is of one result: two side by side are html, markdown, csv or figures"
            )
    name = "report" if len(sides) == 1 else "report-pair"
    folder = home / profile / name if out is None else out
    # All of it is made before any of it is written, so that an error leaves the last report as it was.
    files = {folder / f"report.{ending}": make(made) for kind, (make, ending) in makers.items() if kind in wanted}
    drawn: dict[Path, bytes] = {}
    if {"figures", *ILLUSTRATED} & set(wanted):
        drawn = {folder / FIGURES / figure: content for figure, content in made.figure_files()}
    try:
        for path, content in (drawn | files).items():
            write_atomically(path, content)
    except OSError as error:
        raise PudleError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from None
    failed = list(dict.fromkeys(estimator for side in sides for estimator in broken(side)))
    failed += dict.fromkeys(name for side in sides for name in broken_experiments(side))
    if failed:
        click.echo(f"something broke in {', '.join(failed)}: see 'Skipped, refused or failed' in the report", err=True)
    if drawn:
        click.echo(folder / FIGURES)
    for path in files:
        click.echo(path)
    if failed:
        sys.exit(2)


def _load(name: str | None, home: Path, profile: str) -> Results:
    """Read the results that a name stands for: a folder's, or a commit's; the home's where there is no name."""
    from pudle.measuring.provenance import NoRepository, repository
    from pudle.reports.compare import sides as compare_sides
    from pudle.reports.load import load

    if name is None:
        return load(home, profile)
    folder = compare_sides.folder_of(name, profile)
    if folder is not None:
        return compare_sides.load_folder(folder)
    try:
        root = repository(Path.cwd())
    except NoRepository:
        root = Path.cwd()
    return compare_sides.load_commit(compare_sides.commit_named(name, root), name, home, profile)


def _home() -> Path:
    """Return `.asv` in the repository around the current folder, or in the current folder outside any."""
    from pudle.measuring.provenance import NoRepository, repository

    try:
        return repository(Path.cwd()) / ".asv"
    except NoRepository:
        return Path(".asv")
