"""`pudle audit` tells whether the gradient of a layer in a file is right."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import names
from ..errors import InvalidArgument, SpecError
from ..terminal import POSITIVE, echo
from ..workers import START, Pool

if TYPE_CHECKING:
    from ..data import Dataset

#: Exit code for a gradient that is not right; 2 is wrong usage.
NOT_RIGHT = 1
#: Options of the audit that a file may define.
OPTIONS = "loss", "residual", "step", "tighten"
#: What a file asks for that makes no problem either.
NO_INPUTS = (
    "the file has no `inputs()`: define it, it returns what the layer is called with (to audit a"
    " problem, name a dataset or a function that makes one, with the arguments that it needs)"
)


@click.command("audit")
@click.argument("target", metavar="FILE.py:LAYER")
@click.option(
    "--wrt",
    multiple=True,
    metavar="INPUT",
    help="Number or name of an input, or name of a parameter, once for each [default: all].",
)
@click.option(
    "--tolerance",
    default=1e-2,
    show_default=True,
    help="Error up to which an inexact gradient passes.",
)
@click.option(
    "--timeout",
    type=POSITIVE,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that the audit may take.",
)
def audit_command(target: str, wrt: tuple[str, ...], tolerance: float, timeout: float) -> None:
    """Tell whether the gradient of a layer is right, and if not, what the mistake may be.

    The file defines the layer, a module or a function, and `inputs()`, a tensor or a tuple that it
    is called with. It may define `step(z, *inputs)` or `residual(z, *inputs)`, which the layer
    solves, `loss` and `tighten`; see `pudle.audit`. A file without `inputs`, or a dataset, makes a
    problem: one layer of its algorithm and its loss are audited, in state and theta. The file's
    code runs in a process of its own, with your permissions. The exit code is 0 if the gradient is
    right, or inexact within the tolerance; 1 if it is wrong, less exact or undecided; and 2 for
    wrong usage, or where the layer ends the process or takes too long.

    \b
    Examples:
      pudle audit mine.py:layer
      pudle audit mine.py:layer --wrt 1 --timeout 60
    """
    with Pool(1) as pool:
        # A worker that has loaded what an audit needs is the one that carries it out.
        loaded = pool.call(START, import_audit)
        if loaded.status != "ok":
            raise InvalidArgument(f"`pudle audit` cannot be loaded: {loaded.reason}")
        owners = frozenset([target])
        outcome = pool.call_for(owners, timeout, audit_target, target, wrt, tolerance)
    if outcome.status == "timeout":
        raise InvalidArgument(
            f"{target} is not finished after {timeout:g} s: give a larger --timeout"
        )
    if outcome.status != "ok":
        raise InvalidArgument(f"{target}: {outcome.reason}")
    text, passes = outcome.result
    echo(text)
    if not passes:
        click.get_current_context().exit(NOT_RIGHT)


def import_audit() -> None:
    """Import all that an audit needs of this package, which takes seconds: the time is none of the
    layer's.
    """
    from . import audit  # noqa: F401


def audit_target(target: str, wrt: tuple[str, ...], tolerance: float) -> tuple[str, bool]:
    """Run the user's file and audit its layer, or the problem that it makes; return the text of the
    verdict, and whether the gradient passes.

    A dataset's spec is a target too. A name without a layer is InvalidArgument; without a name the
    layer is called ``layer``. `wrt` is refused with InvalidArgument for a problem.
    """
    from .audit import Audit, audit

    path, name = names.file_of(target) or (None, "")
    definitions = vars(names.load(path)) if path else {}
    if "inputs" not in definitions:
        report: Audit = audit(make_dataset(target, path).problem(), wrt=wrt_of(wrt))
    elif not callable(layer := definitions.get(name or "layer")):
        raise InvalidArgument(no_such_layer(name or "layer", definitions))
    else:
        report = audit(layer, *inputs_of(definitions), **options_of(definitions), wrt=wrt_of(wrt))
    return repr(report), report.passes(tolerance)


def make_dataset(target: str, path: Path | None) -> "Dataset":
    """Make the dataset that a target names, for a file at a path that has no `inputs`.

    Where it names none, and the file has no dataset and no function `problem`, InvalidArgument asks
    for `inputs`; SpecError otherwise.
    """
    try:
        return names.make_dataset(target)
    except SpecError as error:
        if path is None or names.classes_in("datasets", path):
            raise
        raise InvalidArgument(NO_INPUTS) from error


def no_such_layer(name: str, definitions: dict[str, Any]) -> str:
    """Say that a file defines no layer of a name, and list what may be one: modules and functions
    that are defined there.
    """
    choices = [
        key
        for key, value in definitions.items()
        if callable(value)
        and not isinstance(value, type)
        and not key.startswith("_")
        and key not in ("inputs", *OPTIONS)
        # An imported function has the name that it was given elsewhere.
        and (
            getattr(value, "__module__", None) == definitions["__name__"]
            or getattr(value, "__name__", None) != key
        )
    ]
    remedy = f"choose from {', '.join(choices)}" if choices else "it defines no function or module"
    return f"the file defines no layer {name!r}{names.nearest(name, choices)}: {remedy}"


def inputs_of(definitions: dict[str, Any]) -> tuple[Any, ...]:
    """Call the function `inputs` of a file, and return what it returns as a tuple."""
    from torch import Tensor

    inputs = definitions["inputs"]()
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def options_of(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the audit that a file defines."""
    return {name: definitions[name] for name in OPTIONS if name in definitions}


def wrt_of(arguments: tuple[str, ...]) -> list[int | str] | None:
    """Read numbers and names of inputs and parameters; None stands for all."""
    return [int(text) if text.isdigit() else text for text in arguments] or None
