"""`pudle audit` tells whether the gradient of a layer in a file is right."""

from typing import Any

import click

from .. import names
from ..errors import InvalidArgument
from ..terminal import POSITIVE, echo
from ..workers import Pool, restart_clock

#: Exit code for a gradient that is not right; 2 is wrong usage.
NOT_RIGHT = 1


@click.command("audit")
@click.argument("target", metavar="FILE.py:LAYER")
@click.option(
    "--wrt",
    multiple=True,
    metavar="INPUT",
    help="Number of an input or name of a parameter, once for each [default: all].",
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
    problem: one layer of its algorithm is audited. The file's code runs in a process of its own,
    with your permissions. The exit code is 0 if the gradient is right, or inexact within the
    tolerance; 1 if it is wrong, less exact or undecided; and 2 for wrong usage, or where the layer
    ends the process or takes too long.

    \b
    Examples:
      pudle audit mine.py:layer
      pudle audit mine.py:layer --wrt 1 --timeout 60
    """
    with Pool(1) as pool:
        outcome = pool.call(timeout, _audited, target, wrt, tolerance)
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


def _audited(target: str, wrt: tuple[str, ...], tolerance: float) -> tuple[str, bool]:
    """Return what the audit says, and whether the gradient passes."""
    from torch import Tensor

    from .audit import audit

    restart_clock()  # what was imported is none of the layer's
    path, name = names.file_of(target) or (None, "")
    defined = vars(names.load(path)) if path else {}
    options: dict[str, Any] = {}
    if "inputs" not in defined:
        given: Any = (names.make_dataset(target).problem(),)
    elif not callable(layer := defined.get(name or "layer")):
        raise InvalidArgument("the file defines no such layer: name its function")
    else:
        made = defined["inputs"]()
        made = (made,) if isinstance(made, Tensor) else tuple(made)
        given = (layer, *made)
        others = "loss", "residual", "step", "tighten"
        options = {each: defined[each] for each in others if each in defined}
        options["wrt"] = [int(each) if each.isdigit() else each for each in wrt] or None
    found = audit(*given, **options)
    return repr(found), found.passes(tolerance)
