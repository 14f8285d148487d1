"""Problems that a dictionary can be learned from."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..errors import InvalidArgument
from .batches import DictionaryProblem


class LearningWarning(UserWarning):
    """Warning about a training whose result is probably not the intended one."""


def check_problem(problem: Any, fresh: bool) -> None:
    """Refuse a problem that no dictionary can be learned from, and warn of too few samples if no
    fresh ones come.
    """
    if not isinstance(problem, DictionaryProblem):
        kind = type(problem).__name__
        raise InvalidArgument(
            f"a {kind} has no dictionary to learn: give a SparseCoding or a"
            " ConvolutionalSparseCoding"
        )
    x = problem.observations
    # A sample's entries are compared channel by channel: an image of a single color is constant as
    # well.
    entries = x if x.ndim == 2 else x.flatten(2)
    for same, constant in (
        ("entries", bool((x == x.flatten()[0]).all())),
        ("samples", len(x) > 1 and bool((x == x[:1]).all())),
        (
            "entries of a sample",
            entries.shape[-1] > 1 and bool((entries == entries[..., :1]).all()),
        ),
    ):
        if constant:
            raise InvalidArgument(
                f"observations are constant (all {same} are the same): there is no dictionary to"
                " learn"
            )
    # Every position of a filter in an image counts as a sample.
    atoms = problem.code_shape[1]
    samples = math.prod(problem.code_shape) // atoms
    if samples < atoms and not fresh:
        text = (
            f"{samples} samples are fewer than the {atoms} atoms: atoms that no sample needs stay"
            " where they are"
        )
        warnings.warn(f"{text}; give more samples or fewer atoms", LearningWarning, stacklevel=3)
