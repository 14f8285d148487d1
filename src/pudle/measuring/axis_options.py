"""Options that choose what is measured, see `pudle.measuring.selection.select`."""

from typing import Any

import click

from ..terminal import device_option


def several(name: str, plural: str, metavar: str, text: str) -> Any:
    """Return an option that can be given several times."""
    text = f"{text}; repeatable."
    return click.option(f"--{name}", plural, metavar=metavar, help=text, multiple=True)


_POSITIVE = click.IntRange(min=1)
_DEPTH = click.IntRange(min=0)
_OPTIONS = (
    several("estimator", "estimators", "SPEC", "Measure this estimator as well"),
    click.option(
        "--only", is_flag=True, help="Measure only the estimators named with --estimator."
    ),
    several("dataset", "datasets", "SPEC", "Dataset instead of the profile's"),
    several("algorithm", "algorithms", "SPEC", "Algorithm to unroll instead of the profile's"),
    several("loss", "losses", "NAME", "Outer loss instead of the profile's, e.g. reconstruction"),
    several(
        "target",
        "targets",
        "NAME",
        "Gradient to score against instead of the profile's: exact, ghat, gstar, gtilde or limit",
    ),
    click.option(
        "--depth",
        "depths",
        type=_DEPTH,
        multiple=True,
        help="Number of layers to unroll instead of the profile's; repeatable.",
    ),
    click.option("--seeds", type=_POSITIVE, help="Number of seeds instead of the profile's."),
    click.option(
        "--samples",
        type=_POSITIVE,
        help="Number of samples (n_samples) of each dataset instead of the profile's.",
    ),
    several("case", "cases", "GLOB", "Measure only cases whose name matches"),
    device_option,
)


def selection_options(command: Any) -> Any:
    """Add the options to a command; those that are not given are empty tuples, or None for the two
    numbers.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
