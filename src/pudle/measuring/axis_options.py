"""Options of commands that replace a profile's axes, see `pudle.measuring.selection.Axes`."""

from __future__ import annotations

from typing import Any

import click

_OPTIONS = [
    click.option(f"--{name}", plural, multiple=True, metavar=metavar, help=f"{text}; repeatable.")
    for name, plural, metavar, text in (
        ("dataset", "datasets", "SPEC", "Dataset instead of the profile's"),
        ("algorithm", "algorithms", "SPEC", "Algorithm to unroll instead"),
        ("loss", "losses", "NAME", "Outer loss instead of the profile's"),
        ("target", "targets", "NAME", "Target to score against instead"),
    )
]
_OPTIONS += [
    click.option(
        "--depth",
        "depths",
        multiple=True,
        type=click.IntRange(min=0),
        help="Depth instead; repeatable.",
    ),
    click.option(
        "--seeds", type=click.IntRange(min=1), help="Number of seeds instead of the profile's."
    ),
    click.option(
        "--samples",
        type=click.IntRange(min=1),
        help="Number of samples (n_samples) of each dataset instead.",
    ),
]


def axis_options(command: Any) -> Any:
    """Add the options to a command; those that are not given are empty tuples, or None for the two
    numbers.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
