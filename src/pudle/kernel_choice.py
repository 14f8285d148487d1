"""The choice between compiled kernels and the plain torch path."""

import importlib.util
import os

from .errors import InvalidArgument

#: Name of the environment variable that chooses, and what it may be.
VARIABLE, CHOICES = "PUDLE_KERNELS", ("numba", "torch")


def choice() -> str:
    """Return which path is taken, ``numba`` or ``torch``: the environment variable PUDLE_KERNELS, if it is set.

    Raises
    ------
    InvalidArgument
        If the variable is set to anything else.
    """
    chosen = os.environ.get(VARIABLE) or ("numba" if importlib.util.find_spec("numba") else "torch")
    if chosen not in CHOICES:
        raise InvalidArgument(f"the environment variable {VARIABLE}={chosen!r} is unknown: set it to numba or torch")
    return chosen
