"""`pudle submit`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click


@click.command("submit")
@click.argument("spec", metavar="FILE.py")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("leaderboard"),
    show_default=True,
    metavar="FOLDER",
    help="Folder of submissions; this one gets a folder in it.",
)
@click.option(
    "--signed-off-by",
    "person",
    metavar="PERSON",
    help="Who hands in, 'NAME <ADDRESS>' [default: git's author].",
)
@click.option("--accept", is_flag=True, help="Hand in although an earlier submission was better.")
def submit_command(spec: str, out: Path, person: str | None, accept: bool) -> None:
    """Check and measure an estimator in a file, and write the folder to hand in.

    The estimator has to pass `pudle check`. Its accuracy, time and memory are measured on the cases
    of the leaderboard, beside backprop. If the folder holds an earlier submission of that name, the
    new one has to be no worse. What is written holds the file, the results, their digests and who
    signs them off; the site scores the file again. Exits with 1 where a check or the comparison
    failed.

    \b
    Example:
      pudle submit my_estimator.py
    """
    from pudle import names
    from pudle.errors import InvalidArgument
    from pudle.reports.compare import summary
    from pudle.reports.compare.judge import compare
    from pudle.reports.compare.sides import load_folder
    from pudle.reports.leaderboard.scoring import measure_apart
    from pudle.reports.leaderboard.submission import (
        ESTIMATOR,
        PROFILE,
        YARDSTICK,
        read_submission,
        write_manifest,
    )

    person = person or _author()
    name, options = names.parse(spec)
    if not (place := names.file_of(name)):
        raise InvalidArgument(
            f"{spec!r} is no file: hand in the file of an estimator, as my_estimator.py"
        )
    estimator = names.make_estimator(spec)
    click.echo(f"checking {estimator.name}", err=True)
    if code := subprocess.run([sys.executable, "-m", "pudle", "check", spec]).returncode:
        raise click.exceptions.Exit(code)
    folder, new = out / estimator.name, out / f".{estimator.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shutil.copy(place[0], new / ESTIMATOR)
    shown = f"{ESTIMATOR}:{type(estimator).__name__}"
    shown += (
        f"({', '.join(f'{key}={value!r}' for key, value in options.items())})" if options else ""
    )
    click.echo("measuring accuracy, time and memory", err=True)
    measure_apart(new, new, [shown, YARDSTICK], scores_only=False)
    for path in (
        new / PROFILE / "store" / "references",
        new / PROFILE / "results",
        new / PROFILE / "runs",
    ):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("lock", "asv.conf.json"):
        (new / PROFILE / name).unlink(missing_ok=True)
    if folder.exists():
        read_submission(folder)
        comparison = compare(load_folder(folder / PROFILE), load_folder(new / PROFILE))
        click.echo(summary.plain(comparison))
        if len(comparison.cells("regression")) and not accept:
            shutil.rmtree(new)
            click.echo(f"{folder} is left as it was: --accept hands in all the same", err=True)
            raise click.exceptions.Exit(1)
        shutil.rmtree(folder)
    new.rename(folder)
    write_manifest(folder, estimator, shown, person)
    click.echo(folder)


def _author() -> str:
    """Return the author that git knows, or refuse to sign anything off."""
    from pudle.errors import InvalidArgument

    words = [
        subprocess.run(
            ["git", "config", f"user.{part}"], capture_output=True, text=True
        ).stdout.strip()
        for part in ("name", "email")
    ]
    if not all(words):
        raise InvalidArgument("git knows no author: give --signed-off-by 'NAME <ADDRESS>'")
    return "{} <{}>".format(*words)
