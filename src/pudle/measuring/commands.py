"""`pudle run` and `pudle list`, and the options that choose what is measured."""

import dataclasses
import fnmatch
import functools
import inspect
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import TimeRemainingColumn
from rich.table import Table

from .. import names
from ..errors import InvalidArgument, PudleError
from ..terminal import (
    POSITIVE,
    check_device,
    device_option,
    echo,
    home_option,
    profile_option,
    progress_bar,
)
from ..text import about, first_sentence
from .options import Options

KINDS = (*names.KINDS, "problems", "cases", "experiments")
#: The columns of classes.
COLUMNS = ("name", "computes", "options", "also called", "origin")
Row = tuple[Any, ...]
F = TypeVar("F", bound=Callable[..., Any])


def several(
    name: str, metavar: str | None, text: str, kind: click.ParamType[int] | None = None
) -> Callable[[F], F]:
    """Return a decorator that adds an option which can be given several times; its values are an
    argument with the plural of its name.
    """
    plural = f"{name}es" if name == "loss" else f"{name}s"
    text = f"{text}; repeatable."
    return click.option(f"--{name}", plural, type=kind, metavar=metavar, help=text, multiple=True)


_POSITIVE = click.IntRange(min=1)
#: The fields of `Options` as options of commands.
_OPTIONS = (
    several("estimator", "SPEC", "Measure this estimator as well"),
    click.option(
        "--only", is_flag=True, help="Measure only the estimators named with --estimator."
    ),
    several("dataset", "SPEC", "Dataset instead of the profile's"),
    several("algorithm", "SPEC", "Algorithm to unroll instead of the profile's"),
    several("loss", "NAME", "Outer loss instead of the profile's, e.g. reconstruction"),
    several(
        "target",
        "NAME",
        "Gradient to score against instead of the profile's: exact, ghat, gstar, gtilde or limit",
    ),
    several(
        "depth", None, "Number of layers to unroll instead of the profile's", click.IntRange(min=0)
    ),
    click.option("--seeds", type=_POSITIVE, help="Number of seeds instead of the profile's."),
    click.option(
        "--samples",
        type=_POSITIVE,
        help="Number of samples (n_samples) of each dataset instead of the profile's.",
    ),
    several("case", "GLOB", "Measure only cases whose name matches"),
    click.option(
        "--threads",
        type=_POSITIVE,
        default=1,
        show_default=True,
        help="Number of threads in which times and memories are measured.",
    ),
    device_option,
)
_NAMES = {field.name for field in dataclasses.fields(Options)}


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose what is measured to a command, which gets them as one record, its
    argument `options`.

    Also options of the command's own that have the name of a field of `Options`, such as
    ``timeout``, go into the record.
    """

    @functools.wraps(command)
    def with_record(**arguments: Any) -> None:
        chosen = {name: arguments.pop(name) for name in _NAMES & arguments.keys()}
        command(options=Options(**chosen), **arguments)

    with_options: Callable[..., None] = with_record
    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options


@click.command("run")
@profile_option
@selection_options
@several(
    "experiment",
    "GLOB",
    "Carry out only experiments whose name matches, of any profile, and no cases unless you name"
    " some",
)
@click.option(
    "--workers",
    type=_POSITIVE,
    help="Processes for the scores, at most and by default one per core.",
)
@click.option(
    "--timeout",
    type=POSITIVE,
    metavar="SECONDS",
    help="Time limit of one estimator on one case, and of experiments where it exceeds theirs"
    " [default: the profile's].",
)
@click.option("--scores-only", is_flag=True, help="Measure no time and no memory.")
@click.option(
    "--again",
    "remeasure",
    is_flag=True,
    help="Measure time and memory anew, also where they are stored.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Dask cluster for scores and experiments: tcp://HOST:PORT, local:N workers, or"
    " slurm:FILE.yaml; see docs/scale.md.",
)
@home_option
def run_command(
    profile: str,
    workers: int | None,
    scores_only: bool,
    remeasure: bool,
    scheduler: str | None,
    home: Path | None,
    options: Options,
) -> None:
    """Measure accuracy, time and memory, and store the results.

    Results go to the profile's folder in --home; `pudle report` shows them. What is stored already
    is not measured again, so an interrupted run continues where it stopped. Unless --scores-only
    is given, a run on a commit without changes also enters asv's history. The exit code is 2 if
    anything broke, a plug-in included; all other results are stored nevertheless.

    Installed plug-ins are measured together with the profile's own estimators. All combinations of
    the datasets, algorithms and losses that you name are measured, and one that does not fit is
    reported as unsupported. A SPEC is a name, name(options), path/file.py or
    path/file.py:Class(options); `pudle list` shows the names and their options.

    \b
    Examples:
      pudle run
      pudle run --profile default --case 'image_patches-*'
      pudle run --estimator 'truncated(window=20)' --scores-only
      pudle run --profile default --experiment 'denoising-*'
      pudle run --dataset 'image_patches(folder="photographs")' --algorithm fista --depth 100
      pudle run --dataset 'array(path="data.csv")' --algorithm 'own.py:HeavyBall(beta=0.9)'
      pudle run --profile paper --scheduler tcp://head:8786 --scores-only
    """
    if scores_only and remeasure:
        raise InvalidArgument(
            "--again measures times and memories anew, and --scores-only measures none: leave one"
            " out"
        )
    # Imported late, because each takes seconds: help texts need none, and wrong arguments are
    # refused before the second.
    from ..peers import require
    from .selection import select

    selection = select(names.list_profiles()[profile], options, home)
    from .execution import MOST_NAMES, by_reason, execute

    if not (scheduler and scores_only):
        check_device(selection.device)
    cluster = None
    with progress_bar(TimeRemainingColumn()) as bar:
        task, logged = bar.add_task("", total=None), -math.inf
        if scheduler is not None:
            require("distributed", "scale")
            from .cluster import dask_cluster

            say = partial(bar.console.print, markup=False, highlight=False, soft_wrap=True)
            cluster = dask_cluster(scheduler, selection.device, say)

        def show(completed: int, total: int, line: str) -> None:
            """Show progress in the bar or, where there is none, as a line in the log, at most one
            each second and the last.
            """
            nonlocal logged
            bar.update(task, completed=completed, total=total, description=line[:60])
            # A log shows that the run goes on, a line a second at most, and how each stage ends.
            if bar.disable and (completed == total or time.monotonic() > logged + 1):
                logged = time.monotonic()
                echo(f"{completed}/{total}: {line}", err=True)

        summary = execute(
            selection,
            home=home,
            workers=workers,
            scores_only=scores_only,
            remeasure=remeasure,
            progress=show,
            cluster=cluster,
        )
    echo(f"{', '.join(summary.counts)}; results in {summary.folder}")
    for finding in summary.findings:
        echo(f"  {finding}")
    reasons = by_reason(summary.broken)
    if (more := len(reasons) - MOST_NAMES) > 0:
        reasons[MOST_NAMES:] = [f"and {more} more, which `pudle report` lists"]
    plugins = names.broken("estimators", "datasets", "algorithms", "thresholding", "experiments")
    if number := len(summary.broken) + len(plugins):
        raise PudleError(f"{number} broken: {'; '.join([*reasons, *plugins])}")


@click.command("list")
@click.argument("wanted", nargs=-1, metavar="[KIND|FILE.py|GLOB]...")
@profile_option
def list_command(wanted: tuple[str, ...], profile: str) -> None:
    """List what specs can name, with options, defaults and origin; cases and experiments.

    A broken plug-in of any kind is an error after the lists, with exit code 2.

    KIND is estimators, datasets, algorithms, thresholding, optimizers, schedules, problems (which
    datasets make, and a function `problem` in your own --dataset FILE.py), cases or experiments;
    without any, all but the experiments are listed. For a FILE.py, the classes are listed that
    specs can name. Experiments are listed with what they show and about how long they take. A
    GLOB, such as '2a-*', or the name of an experiment, leaves the names that match it, of all kinds
    if none is given.

    \b
    Examples:
      pudle list estimators
      pudle list my_file.py
      pudle list experiments '2a-T50-*'
    """
    paths = [Path(word).expanduser() for word in wanted if word.endswith(".py")]
    words = [word for word in wanted if not word.endswith(".py")]
    experiments = names.list_experiments()
    # The name of an experiment is a glob that matches itself.
    globs = [word for word in words if set(word) & set("*?[") or word in experiments]
    kinds = [word for word in words if word not in globs]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        hint = f"{names.nearest(unknown[0], KINDS)}: give {', '.join(KINDS)}, a file.py or a glob"
        raise PudleError(f"unknown kind {unknown[0]!r}{hint}")
    for path in paths:
        _print_classes_in(path)
    if globs:
        _print_matching(kinds or KINDS, globs, profile)
    else:
        for kind in kinds if wanted else KINDS[:-1]:
            _print(kind, list(_rows(kind, profile)))
    if not wanted:
        echo(f"{len(experiments)} experiments: see `pudle list experiments`")
    if broken := names.broken(*names.KINDS, "problems", "profiles", "experiments"):
        raise PudleError(f"{len(broken)} broken: {'; '.join(broken)}")


def _print_matching(kinds: Sequence[str], globs: list[str], profile: str) -> None:
    """Print the lists of kinds as far as names match one of the globs; PudleError says that none
    does.
    """
    any_matches = False
    for kind in kinds:
        header, *rows = _rows(kind, profile)
        matching = [row for row in rows if any(fnmatch.fnmatch(row[0], glob) for glob in globs)]
        if matching:
            _print(kind, [header, *matching])
            any_matches = True
    if not any_matches:
        all_names = f"`pudle list {kinds[-1]}` lists all"
        raise PudleError(f"nothing matches {' or '.join(globs)}: {all_names}")


def _rows(kind: str, profile: str) -> Iterator[Row]:
    """Yield the names of the columns of a table, then its rows, one for each entry of a kind.

    Loads all plug-ins of the kind; a broken one has no row. `profile` gives the cases, and of
    experiments whether it has them.
    """
    selection = names.list_profiles()[profile]
    if kind == "cases":
        yield "case", "dataset", "algorithm", "seeds"
        for case in selection.cases:
            yield case.name, case.dataset, case.algorithm, len(case.seeds)
    elif kind == "experiments":
        yield "experiment", "study", "takes about", "shows", f"in profile {profile}"
        for study, experiments in names.entries("experiments").items():
            for name, experiment in experiments.items():
                in_profile = "yes" if name in selection.experiments else ""
                seconds = experiment.expected_seconds()
                takes = "" if seconds is None else about(seconds)
                yield name, study, takes, experiment.shows, in_profile
    else:
        yield COLUMNS
        entries = names.entries(kind)
        for name, cls in entries.items():
            yield name, *_describe(cls), entries.origins[name]


def _print_studies(studies: set[str]) -> None:
    """Print what each of the studies asks: the first sentence of the module that holds its
    experiments, or its name alone where there is none.
    """
    echo("Times are orders of magnitude on one core; none is known where the column is empty.")
    for point in names.points("experiments"):
        if point.name in studies:
            sentence = first_sentence(inspect.getdoc(sys.modules[point.module]) or "")
            echo(f"{point.name}: {sentence}" if sentence else point.name)


def _print_classes_in(path: Path) -> None:
    """Print, for each kind of plug-in, a table of its classes in a user's file, which is imported.

    PudleError refuses a file without any class. SpecError refuses a class that no spec can make;
    tables of the kinds before it are printed by then.
    """
    holds_any = False
    for kind in names.KINDS:
        classes = [names.class_in(kind, path, name) for name in names.classes_in(kind, path)]
        if classes:
            rows = [(names.name_of(cls), *_describe(cls), "file") for cls in classes]
            _print(kind, [COLUMNS, *rows])
            holds_any = True
    if not holds_any:
        bases = ", ".join(kind.base_class().__name__ for kind in names.KINDS.values())
        raise PudleError(
            f"{path} holds nothing that a spec can name: derive classes from pudle's {bases}"
        )


def _print(kind: str, rows: Sequence[Row]) -> None:
    """Print a table, the first of whose rows names the columns, and below experiments what their
    studies ask; columns that are empty everywhere are left out.

    The first column, names to type, is never cut. A terminal has its own width, and a pipe gets
    lines of 200 characters.
    """
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    table = Table(title=kind.capitalize(), title_justify="left")
    for name, *_ in columns:
        table.add_column(name, no_wrap=not table.columns, overflow="fold")
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*map(escape, map(str, row)))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)
    if kind == "experiments":
        _print_studies({study for _, study, *_ in rows[1:]})


def _describe(cls: Any) -> Row:
    """Describe a class in three texts: the claim of an estimator, empty for other kinds, the
    options that a spec can hold, with their defaults where they have some, and the aliases.
    """
    options = []
    for option in names.options(cls):
        default = option.default
        if option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        default = names.text(default) if dataclasses.is_dataclass(default) else default
        required = default is dataclasses.MISSING
        options.append(option.name if required else f"{option.name}={default!r}")
    return getattr(cls, "computes", ""), ", ".join(options), ", ".join(getattr(cls, "aliases", ()))
