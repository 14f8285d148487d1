"""A layer whose solver is tighter: it stops later, or at a smaller tolerance."""

import contextlib
import copy
import inspect
import re
from collections.abc import Callable
from functools import partial

from ..errors import InvalidArgument

#: How a tighter option differs: a number of steps, a tolerance.
MORE_STEPS, SMALLER_TOLERANCE = 10, 1e-3
#: What options of solvers are called.
SOLVER_OPTION = re.compile("tol|eps|iter|steps|depth")


def option_of(layer: Callable[..., object]) -> str:
    """Return the name of the attribute or the keyword of a layer that most likely makes its solver
    tighter, in quotes; empty if there is none.
    """
    options = dict(getattr(layer, "__dict__", {}))
    with contextlib.suppress(TypeError, ValueError):
        for name, parameter in inspect.signature(layer).parameters.items():
            options[name] = parameter.default
    numbers = [name for name, option in options.items() if type(option) in (int, float)]
    return next((repr(name) for name in numbers if SOLVER_OPTION.search(repr(name))), "")


def tightened(
    layer: Callable[..., object], tighten: Callable[..., object] | str
) -> Callable[..., object]:
    """Return a layer with a tighter option, or the one that was given."""
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
    value *= MORE_STEPS if isinstance(value, int) else SMALLER_TOLERANCE
    if is_keyword:
        return partial(layer, **{tighten: value})
    changed = copy.copy(layer)
    setattr(changed, tighten, value)
    return changed
