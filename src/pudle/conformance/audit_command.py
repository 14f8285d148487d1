"""`pudle audit` tells whether the gradient of a layer in a file is right."""

from pathlib import Path
from typing import Any

import click

from .. import names
from ..errors import InvalidArgument, PudleError, first_line
from ..terminal import PATH, echo

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
    "--figure",
    type=PATH,
    help="Write differences against their step to this .png or .svg file.",
)
def audit_command(target: str, wrt: tuple[str, ...], tolerance: float, figure: Path | None) -> None:
    """Tell whether the gradient of a layer is right, and if not, what the mistake may be.

    The file defines the layer, a module or a function, and `inputs()`, a tensor or a tuple that it
    is called with. It may define `step(z, *inputs)` or `residual(z, *inputs)`, which the layer
    solves, `loss` and `tighten`; see `pudle.audit`. A file without `inputs`, or a dataset, makes a
    problem: one layer of its algorithm is audited. The file's code runs with your permissions. The
    exit code is 0 if the gradient is right, or inexact within the tolerance; 1 if it is wrong, less
    exact or undecided; and 2 for wrong usage.

    \b
    Examples:
      pudle audit mine.py:layer
      pudle audit mine.py:layer --wrt 1 --figure differences.svg
    """
    from torch import Tensor

    from .audit import audit

    try:
        path, name = names.file_of(target) or (None, "")
        defined = vars(names.load(path)) if path else {}
        options: dict[str, Any] = {}
        if "inputs" not in defined:
            given: Any = (names.make_dataset(target).problem(),)
        elif not callable(layer := defined.get(name or "layer")):
            raise InvalidArgument(f"{target}: the file defines no such layer: name its function")
        else:
            made = defined["inputs"]()
            made = (made,) if isinstance(made, Tensor) else tuple(made)
            given = (layer, *made)
            others = "loss", "residual", "step", "tighten"
            options = {each: defined[each] for each in others if each in defined}
            options["wrt"] = [int(each) if each.isdigit() else each for each in wrt] or None
        found = audit(*given, **options)
        if figure:
            found.figure().savefig(figure)
    except PudleError:
        raise
    except Exception as error:
        raise InvalidArgument(f"{target}: {type(error).__name__}: {first_line(error)}") from error
    echo(found)
    if not found.passes(tolerance):
        click.get_current_context().exit(NOT_RIGHT)
