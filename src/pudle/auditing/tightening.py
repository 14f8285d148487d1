"""A layer with a tighter solver: which option makes it tighter, and the layer with that option."""

import contextlib
import copy
import inspect
import re
from collections.abc import Callable
from functools import partial

from ..errors import InvalidArgument

#: Factors of a tighter option: of a number of steps, of a tolerance.
MORE_STEPS, TIGHTER = 10, 1e-3
#: Parts of the names of options that most likely make a solver tighter.
OPTION_NAMES = re.compile("tol|eps|iter|steps|depth")


def option_of(layer: Callable[..., object]) -> str:
    """Return the name of the first number among the attributes and the keywords of a layer that by
    its name most likely makes its solver tighter, in quotes; empty if there is none.
    """
    options = dict(getattr(layer, "__dict__", {}))
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(layer).parameters
        options |= {name: parameter.default for name, parameter in parameters.items()}
    for name, value in options.items():
        if type(value) in (int, float) and OPTION_NAMES.search(name):
            return repr(name)
    return ""


def tightened(
    layer: Callable[..., object], tighten: Callable[..., object] | str
) -> Callable[..., object]:
    """Return a copy of a layer with a tighter option, or the tighter layer that was given; the
    layer itself is not changed.

    A whole number becomes ten times as large, another number a thousandth.

    Raises
    ------
    InvalidArgument
        If the layer has no number of that name.
    """
    if callable(tighten):
        return tighten
    value: object = getattr(layer, tighten, None)
    is_keyword = value is None
    if is_keyword:
        value = getattr(inspect.signature(layer).parameters.get(tighten), "default", None)
    if not isinstance(value, int | float):
        raise InvalidArgument(
            f"tighten={tighten!r} is no number that the layer has: name an attribute or a keyword"
            " with a default, or give the tighter layer"
        )
    value *= MORE_STEPS if isinstance(value, int) else TIGHTER
    if is_keyword:
        return partial(layer, **{tighten: value})
    changed = copy.copy(layer)
    setattr(changed, tighten, value)
    return changed
