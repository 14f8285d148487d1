"""`pudle compare`."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import click

from pudle.measuring.axis_options import axis_options


@click.command("compare")
@click.argument("base")
@click.argument("head")
@click.option(
    "--run", is_flag=True, help="Measure both first: they must be commits of this repository."
)
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
    help="Folder of results [default: .asv in the repository].",
)
@click.option(
    "--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write a summary here."
)
@click.option(
    "--csv", type=click.Path(path_type=Path), metavar="FILE", help="Write every verdict here."
)
@click.option(
    "--estimator",
    "estimators",
    multiple=True,
    metavar="SPEC",
    help="Measure this estimator too; needs --run.",
)
@click.option(
    "--only", is_flag=True, help="Measure only the estimators named with --estimator; needs --run."
)
@click.option(
    "--case",
    "cases",
    multiple=True,
    metavar="GLOB",
    help="Measure only cases that match; needs --run.",
)
@axis_options
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="M",
    help="Judge what is measured after about so many minutes; needs --run.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="Device to measure on [default: cpu]; needs --run.",
)
def compare_command(
    base: str,
    head: str,
    run: bool,
    profile: str,
    home: Path | None,
    markdown: Path | None,
    csv: Path | None,
    **options: Any,
) -> None:
    """Compare HEAD with BASE: fail where accuracy, time or memory got worse.

    BASE and HEAD are folders with results, or commits of the current repository. The table
    [tool.pudle.compare] in its pyproject.toml sets the thresholds. Exits with 1 when something
    regressed, with 2 when there is nothing to judge. With --run, the options from --dataset to
    --samples take the place of the profile's cases, as in `pudle run`.

    \b
    Examples:
      pudle compare main HEAD --run --markdown summary.md
      pudle compare main HEAD --run --only --estimator mine --depth 10 --depth 200 --minutes 10
      pudle compare main HEAD --run --dataset 'digits(n_samples=100)' --algorithm fista --seeds 2
      pudle compare v0.1 HEAD
      pudle compare old/.asv/quick .asv/quick
    """
    # These import torch and pandas, which --help can do without.
    from pudle.errors import InvalidArgument, MissingResults, UnreadableResult
    from pudle.files import lies_at, write_atomically
    from pudle.measuring.commits.pair import CommitPair
    from pudle.measuring.commits.turns import rounds_frame
    from pudle.reports import markup
    from pudle.reports.compare import sides, summary
    from pudle.reports.compare.judge import compare
    from pudle.reports.compare.limits import Limits
    from pudle.terminal import check_device
    from pudle.text import count

    if not run and any(options.values()):
        raise InvalidArgument(
            "--estimator, --only, --case, those from --dataset to --samples, --minutes and --device"
            " choose what --run measures: add --run"
        )
    if options["only"] and not options["estimators"]:
        raise InvalidArgument("--only needs at least one --estimator SPEC to measure")
    # Before any commit is built.
    options["device"] = check_device(options["device"] or "cpu")
    root = sides.repository_root()
    limits = Limits.of_repository(root)
    home, names = home or root / ".asv", (base, head)
    folders = [name for name in names if sides.folder_of(name, profile)]
    if run and folders:
        raise InvalidArgument(
            f"--run measures commits, and {folders[0]!r} is a folder with results: leave out --run"
        )
    commits = [] if folders else [sides.commit_named(name, root) for name in names]
    pair = CommitPair(home, *commits, profile) if commits else None
    if pair and run:
        pair.measure(root, limits.seconds, functools.partial(click.echo, err=True), **options)
    together = pair.read() if pair and lies_at(pair.rounds_path) else None
    if pair and together:
        results = sides.load_pair(pair)
    else:
        results = [sides.load_side(name, root, home, profile) for name in names]
        if empty := [name for name, side in zip(names, results, strict=True) if not side.cases]:
            raise MissingResults(
                f"{empty[0]} holds experiments only, and only cases are judged: `pudle report`"
                " shows both"
            )
    # A verdict on what is left of a damaged result would be none.
    if damaged := [line for side in results for line in side.damaged]:
        raise UnreadableResult("; ".join(damaged))
    notes: tuple[str, ...] = ()
    if together and together.partial:
        results, left_out = sides.on_both(results)
        rest = count(left_out, "score or memory", "scores or memories")
        notes = (
            f"Partial: the time limit left out times, and {rest}: what is judged is the rest.",
        )
    turns = (rounds_frame(together.rounds), together.lacking) if together else ()
    comparison = compare(*results, limits, *turns)
    comparison = dataclasses.replace(comparison, notes=(*notes, *comparison.notes))
    if markdown is not None:
        write_atomically(markdown, summary.markdown(comparison, base, head, results[1].profile))
    if csv is not None:
        write_atomically(csv, markup.csv(comparison.frame))
    click.echo(summary.plain(comparison))
    if len(comparison.cells()):
        raise click.exceptions.Exit(1)
