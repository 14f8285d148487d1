"""`pudle report`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("report")
@click.option("--profile", default="quick", show_default=True, metavar="NAME", help="quick, default or paper.")
@click.option(
    "--home", type=click.Path(path_type=Path), default=None, help="Where results are [default: .asv in the repository]."
)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Where to write [default: report beside them].")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["html", "markdown", "csv", "latex"]),
    multiple=True,
    help="What to write; repeatable [default: html, markdown and csv].",
)
def report_command(profile: str, home: Path | None, out: Path | None, formats: tuple[str, ...]) -> None:
    """Write the report: page, Markdown, CSV or LaTeX.

    Prints the path of each file, the page's last. Exits with 2 when a measurement broke; the report is written all the same
    and says what broke.

    \b
    Examples:
      pudle report
      pudle report --profile default --format html --format latex --out paper/
    """
    # These import torch and the plotting libraries, which --help can do without.
    from pudle.errors import PudleError
    from pudle.files import write_atomically
    from pudle.reports.load import load
    from pudle.reports.page import FORMATS, Report
    from pudle.reports.tables import broken

    home = _home() if home is None else home
    results = load(home, profile)
    report = Report.of(results)
    folder = home / profile / "report" if out is None else out
    wanted = formats or ("html", "markdown", "csv")
    # All of it is made before any of it is written, so that an error leaves the last report as it was.
    files = {folder / f"report.{ending}": make(report) for name, (make, ending) in FORMATS.items() if name in wanted}
    try:
        for path, content in files.items():
            write_atomically(path, content)
    except OSError as problem:
        raise PudleError(f"cannot write to {folder} ({problem.strerror}): choose another folder with --out") from None
    failed = broken(results)
    if failed:
        click.echo(f"something broke in {', '.join(failed)}: see 'Skipped, refused or failed' in the report", err=True)
    for path in files:
        click.echo(path)
    if failed:
        sys.exit(2)


def _home() -> Path:
    """Return `.asv` in the repository around the current folder, or in the current folder outside any."""
    from pudle.provenance import NoRepository, repository

    try:
        return repository(Path.cwd()) / ".asv"
    except NoRepository:
        return Path(".asv")
