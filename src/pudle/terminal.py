"""The parts that commands share: options, the progress bar, and the check of the
device.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from . import names
from .errors import InvalidArgument
from .text import printable

#: Types of options that commands share: a path, and a number above zero.
PATH, POSITIVE = click.Path(path_type=Path), click.FloatRange(min=0, min_open=True)
#: Options that commands share. The profiles themselves take seconds to import.
profile_option = click.option(
    "--profile",
    type=click.Choice(sorted({point.name for point in names.points("profiles")})),
    default="quick",
    show_default=True,
    help="Named choice of cases, estimators, depths and seeds.",
)
home_option = click.option(
    "--home",
    type=PATH,
    help="Folder of results [default: .asv in the repository, or here].",
)
device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Device to compute on.",
)


def echo(message: object = "", *, err: bool = False) -> None:
    """Print lines on stdout, or a message of at most 5000 characters on stderr, as printable text,
    see `pudle.text.printable`: what commands say may come from a file or from somebody's code.
    """
    click.echo(printable(str(message))[: 5000 if err else None], err=err)  # noqa: TID251


def progress_bar(*more: ProgressColumn, transient: bool = False) -> Progress:
    """Return a progress bar on stderr, with further columns; it is disabled if stderr is not a
    terminal.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *more,
        console=console,
        disable=not console.is_terminal,
        transient=transient,
    )


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[int, int, str], None]]:
    """Show the steps done on a bar; where stderr is no terminal, such as in a notebook, on one line
    that is written over.

    The context gives a function of the number of steps done, of all steps, and of the text of the
    line.
    """
    line_is_open = False
    with progress_bar(transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(completed: int, total: int, line: str) -> None:
            """Show how many steps of how many are done, and a line of text."""
            nonlocal line_is_open
            bar.update(task, completed=completed, total=total, description=line[:60])
            if bar.disable:
                line_is_open = completed < total
                text = f"\r{completed}/{total} {printable(line):60.60}"
                click.echo(text, err=True, nl=not line_is_open)  # noqa: TID251

        try:
            yield show
        finally:
            # An error gets a line of its own.
            if line_is_open:
                echo(err=True)


def check_device(device: str) -> str:
    """Return the device, or raise InvalidArgument for ``cuda`` where torch sees none. Imports torch
    only then.
    """
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InvalidArgument("--device cuda: torch sees no CUDA device here; use --device cpu")
    return device
