"""`pudle compare`."""

import functools
from pathlib import Path

import click
from click.core import ParameterSource

from pudle.measuring.commands import selection_options
from pudle.measuring.options import Options
from pudle.terminal import PATH, POSITIVE, check_device, echo, home_option, profile_option

_file_option = functools.partial(click.option, type=PATH, metavar="FILE")


@click.command("compare")
@click.argument("base")
@click.argument("head")
@click.option(
    "--run", is_flag=True, help="Measure both first: they must be commits of this repository."
)
@profile_option
@home_option
@_file_option("--markdown", help="Write a summary here.")
@_file_option("--csv", help="Write every verdict here.")
@selection_options
@click.option(
    "--minutes",
    type=POSITIVE,
    metavar="M",
    help="Judge what is measured after about so many minutes; needs --run.",
)
def compare_command(
    base: str,
    head: str,
    run: bool,
    profile: str,
    home: Path | None,
    markdown: Path | None,
    csv: Path | None,
    options: Options,
    minutes: float | None,
) -> None:
    """Compare HEAD with BASE: fail where accuracy, time or memory got worse.

    BASE and HEAD are folders with results, or commits of the current repository. The table
    [tool.pudle.compare] in its pyproject.toml sets the thresholds. Exits with 1 when something
    regressed, with 2 when there is nothing to judge. Times fail only where --run measured them, in
    turns: between separate runs the machine may have changed. The options from --estimator to
    --device are those of `pudle run`, and need --run.

    \b
    Examples:
      pudle compare main HEAD --run --markdown summary.md
      pudle compare main HEAD --run --only --estimator mine --depth 100 --minutes 10
      pudle compare main HEAD --run --dataset 'digits(n_samples=100)' --algorithm fista --seeds 2
      pudle compare v0.1 HEAD
      pudle compare old/.asv/quick .asv/quick
    """
    # These import torch and pandas, which --help can do without.
    from pudle.errors import InvalidArgument
    from pudle.files import write_atomically
    from pudle.measuring.commits.pair import CommitPair
    from pudle.measuring.provenance import results_home
    from pudle.reports import markup
    from pudle.reports.compare import judge, sides, summary

    source = click.get_current_context().get_parameter_source
    measured = (*vars(options), "minutes")
    if not run and any(source(name) is ParameterSource.COMMANDLINE for name in measured):
        raise InvalidArgument(
            "--estimator, --only, those from --dataset to --device, and --minutes choose what --run"
            " measures: add --run"
        )
    check_device(options.device)
    default_home = results_home()
    home, root = home or default_home, default_home.parent
    limits, names = judge.Limits.of_repository(root), (base, head)
    folders = [name for name in names if sides.folder_of(name, profile)]
    if run and folders:
        raise InvalidArgument(
            f"--run measures commits, and {folders[0]!r} is a folder with results: leave out --run"
        )
    if folders:
        old, new = (sides.load_side(name, home, profile) for name in names)
        together = None
    else:
        pair = CommitPair(home, sides.commit_named(base), sides.commit_named(head), profile)
        if run:
            pair.measure(root, functools.partial(echo, err=True), options, minutes=minutes)
        (old, new), together = sides.load_commits(names, pair, just_measured=run)
        if together and not run:
            echo("judged is what an earlier --run measured of these commits", err=True)
    sides.check_judgeable({base: old, head: new})
    comparison = judge.compare(old, new, limits, together)
    if markdown:
        write_atomically(markdown, summary.markdown(comparison, base, head, new.profile))
    if csv:
        write_atomically(csv, markup.csv(comparison.frame))
    echo(summary.plain(comparison))
    if comparison.cells():
        raise click.exceptions.Exit(1)
