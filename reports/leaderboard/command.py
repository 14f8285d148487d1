"""`pudle submit` and `pudle leaderboard`."""

import shutil
import sys
from pathlib import Path

import click

from pudle.terminal import PATH, echo


@click.command("submit")
@click.argument("spec", metavar="FILE.py")
@click.option(
    "--out",
    type=PATH,
    default="leaderboard",
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
    from pudle.reports.compare import judge, sides, summary
    from pudle.reports.leaderboard import submission
    from pudle.workers import Process

    person = person or submission.author()
    place = names.file_of(names.parse(spec)[0])
    if not place:
        raise InvalidArgument(
            f"{spec!r} is no file: hand in the file of an estimator, as my_estimator.py"
        )
    estimator = names.make_estimator(spec)
    if reason := submission.unfit(estimator.name):
        raise InvalidArgument(reason)
    echo(f"checking {estimator.name}", err=True)
    with Process([sys.executable, "-m", "pudle", "check", spec], (1, 2)) as check:
        if code := check.wait():
            raise click.exceptions.Exit(code)
    folder, new = out / estimator.name, out / f".{estimator.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shutil.copy(place[0], new / submission.ESTIMATOR)
    shown = names.placed(names.text(estimator), lambda path: Path(submission.ESTIMATOR))
    echo("measuring accuracy, time and memory", err=True)
    submission.run_apart(
        new, new, submission.__name__, "measure", new.resolve(), shown, submission.YARDSTICK
    )
    for left in submission.ON_THE_WAY:
        path = new / submission.PROFILE / left
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if folder.exists():
        submission.read_submission(folder)
        results = (sides.load_folder(side / submission.PROFILE) for side in (folder, new))
        comparison = judge.compare(*results)
        echo(summary.plain(comparison))
        if len(comparison.cells()) and not accept:
            shutil.rmtree(new)
            echo(f"{folder} is left as it was: --accept hands in all the same", err=True)
            raise click.exceptions.Exit(1)
        shutil.rmtree(folder)
    # Its run left more there, as what numba compiled.
    folder.mkdir()
    for part in (submission.ESTIMATOR, submission.PROFILE):
        (new / part).rename(folder / part)
    shutil.rmtree(new)
    submission.write_manifest(folder, estimator, shown, person)
    echo(folder)


@click.command("leaderboard")
@click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default="leaderboard"
)
@click.option(
    "--out",
    type=PATH,
    default="build/leaderboard",
    show_default=True,
    metavar="PATH",
    help="Where the tables and the badges go.",
)
def leaderboard_command(folder: Path, out: Path) -> None:
    """Score all submissions in FOLDER again, and write ranks and badges.

    Each gradient comes from a process of its own that sees nothing of this one's environment; only
    such a process loads an estimator's file. It has your permissions: for files of strangers use a
    machine without secrets. Scores are kept by the digest of a submission, so that only new ones
    are computed. What is not as it was signed off, fails `pudle check`, or does not score again as
    it was submitted, is listed with the reason. The command prints the path of the page it wrote.

    \b
    Example:
      pudle leaderboard leaderboard --out build/leaderboard
    """
    from pudle.reports.leaderboard.page import write_leaderboard

    echo(write_leaderboard(folder, out, lambda line: echo(line, err=True)))
