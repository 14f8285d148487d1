"""`pudle leaderboard`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("leaderboard")
@click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default="leaderboard"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build/leaderboard"),
    show_default=True,
    metavar="PATH",
    help="Where the tables and the badges go.",
)
def leaderboard_command(folder: Path, out: Path) -> None:
    """Score all submissions in FOLDER again, and write ranks and badges.

    Each estimator's file runs in a process of its own that sees nothing of this one's environment,
    with your permissions: for files of strangers use a machine without secrets. Scores are kept by
    the digest of a submission, so that only new ones are computed. What is not as it was signed
    off, or does not score again as it was submitted, is listed with the reason. The command prints
    the path of the page it wrote.

    \b
    Example:
      pudle leaderboard leaderboard --out build/leaderboard
    """
    from pudle.reports.leaderboard.page import write_leaderboard

    click.echo(write_leaderboard(folder, out, lambda line: click.echo(line, err=True)))
