"""`pudle compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.command("compare")
@click.argument("base")
@click.argument("head")
@click.option("--run", "run", is_flag=True, help="Measure both first: they must be commits of this repository.")
@click.option("--profile", default="quick", show_default=True, metavar="NAME", help="quick, default or paper.")
@click.option(
    "--home", type=click.Path(path_type=Path), default=None, help="Where results are [default: .asv in the repository]."
)
@click.option("--markdown", type=click.Path(path_type=Path), default=None, metavar="FILE", help="Write a summary here.")
@click.option("--csv", type=click.Path(path_type=Path), default=None, metavar="FILE", help="Write every verdict here.")
@click.option("--estimator", "estimators", multiple=True, metavar="SPEC", help="With --run: measure this one as well.")
@click.option("--only", is_flag=True, help="With --run: measure only the estimators named with --estimator.")
@click.option("--case", "cases", multiple=True, metavar="GLOB", help="With --run: measure only cases that match.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default=None, help="With --run: where to measure [default: cpu]."
)
def compare_command(
    base: str,
    head: str,
    run: bool,
    profile: str,
    home: Path | None,
    markdown: Path | None,
    csv: Path | None,
    estimators: tuple[str, ...],
    only: bool,
    cases: tuple[str, ...],
    device: str | None,
) -> None:
    """Gate HEAD by BASE: fail where accuracy, time or memory got worse.

    BASE and HEAD are folders with results, or commits of the repository here. Thresholds are those of [tool.pudle.compare]
    in its pyproject.toml. Exits with 1 when something regressed, with 2 when there is nothing to judge.

    \b
    Examples:
      pudle compare main HEAD --run --markdown summary.md
      pudle compare v0.1 HEAD
      pudle compare old/.asv/quick .asv/quick
    """
    # These import torch and pandas, which --help can do without.
    from pudle.errors import InvalidArgument, PudleError
    from pudle.files import write_atomically
    from pudle.measuring.provenance import NoRepository, repository
    from pudle.reports.compare import text as compare_text
    from pudle.reports.compare.judge import Limits, compare
    from pudle.terminal import check_device

    if not run and (estimators or only or cases or device):
        raise InvalidArgument("--estimator, --only, --case and --device choose what --run measures: add --run")
    if only and not estimators:
        raise InvalidArgument("--only needs at least one --estimator SPEC to measure")
    # Before two commits are built in vain.
    check_device(device or "cpu")
    try:
        root = repository(Path.cwd())
    except NoRepository:
        root = Path.cwd()
    limits = Limits.of(thresholds(root))
    options = (estimators, only, cases, device or "cpu")
    sides, rounds = _results(base, head, root, home or root / ".asv", profile, run, options, limits)
    comparison = compare(*sides, limits, rounds)
    try:
        if markdown is not None:
            write_atomically(markdown, compare_text.markdown(comparison, base, head, sides[1].profile))
        if csv is not None:
            write_atomically(csv, comparison.frame.to_csv(index=False))
    except OSError as error:
        raise PudleError(f"cannot write to {error.filename} ({error.strerror}): choose another file") from None
    click.echo(compare_text.plain(comparison))
    if comparison.count("regression"):
        sys.exit(1)


def thresholds(root: Path) -> dict[str, Any]:
    """Return the table ``[tool.pudle.compare]`` of a repository, empty where there is none.

    Raises
    ------
    InvalidArgument
        If its ``pyproject.toml`` cannot be read.
    """
    import tomllib

    from pudle.errors import InvalidArgument

    path = root / "pyproject.toml"
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read ({error})") from None
    return content.get("tool", {}).get("pudle", {}).get("compare", {})


def _results(
    base: str, head: str, root: Path, home: Path, profile: str, run: bool, options: tuple[Any, ...], limits: Any
) -> tuple[Any, Any]:
    """Return the results of both sides, and the times taken in turns where there are any."""
    from pudle.errors import InvalidArgument, MissingResults
    from pudle.measuring.commits.run import CommitPair, Request, make
    from pudle.reports.compare.sides import commit_named, folder_of, load_commit, load_folder

    folders = [folder_of(name, profile) for name in (base, head)]
    if run and any(folders):
        told = base if folders[0] else head
        raise InvalidArgument(f"--run measures commits, and {told!r} is a folder with results: leave out --run")
    if not any(folders):
        commits = [commit_named(name, root) for name in (base, head)]
        pair = CommitPair.of(home, *commits, profile)
        if run:
            request = Request(profile, *options)
            make(*commits, root=root, home=home, request=request, limit=limits.seconds, tell=_tell)
        if pair.complete:
            return pair.load(), pair.rounds()
    sides = [
        load_commit(commit_named(name, root), name, home, profile) if folder is None else load_folder(folder)
        for name, folder in zip((base, head), folders, strict=True)
    ]
    for name, side in zip((base, head), sides, strict=True):
        if not side.cases:
            raise MissingResults(
                f"{name} holds experiments and no case, and the gate judges cases: `pudle report` shows both"
            )
    return tuple(sides), None


def _tell(line: str) -> None:
    click.echo(line, err=True)
