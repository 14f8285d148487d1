"""Kinds of problems: their fields, and models of them in numpy that use no problem and no algorithm
of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..problems import (
    ConvolutionalSparseCoding,
    PenaltySelection,
    Problem,
    Ridge,
    SparseCoding,
    ThresholdedConvolutionalSparseCoding,
)
from .oracles import Array, Model


class Kind(NamedTuple):
    """A kind of problem: its class, its fields that are tensors, the others except the loss, and a
    model for each loss.
    """

    make: Callable[..., Problem]
    arrays: dict[str, Array]
    options: dict[str, Any]
    models: dict[str, Model]
    reversed_strides: bool = False


def dense(arrays: dict[str, Array], **options: Any) -> Kind:
    """Model sparse coding in a dense dictionary."""
    l2_penalty = options.get("l2_penalty", 0.0)
    models = _models(arrays, lambda theta: (theta, options["penalty"], l2_penalty), options)
    return Kind(SparseCoding, arrays, options, models)


def convolutional(arrays: dict[str, Array], **options: Any) -> Kind:
    """Model convolutional sparse coding; the penalties, one for each filter, are learned if they
    are an array.
    """
    dictionary, stride, l2_penalty = (
        arrays["dictionary"],
        options["stride"],
        options.get("l2_penalty", 0.0),
    )
    image, kernel = arrays["observations"].shape[2:], dictionary.shape[2:]

    def placed(length: int, side: int) -> Array:
        """Return whether pixel y lies under filter entry i at code position a, for all y, a and i
        along one axis.
        """
        positions = -(-(length - side) // stride) + 1
        cropped = -(-((positions - 1) * stride + side - length) // 2)
        entries = np.arange(length)[:, None] + cropped - stride * np.arange(positions)
        return (entries[..., None] == np.arange(side)).astype(float)

    rows, columns = map(placed, image, kernel)

    def matrix(filters: Array) -> Array:
        """Return all shifted copies of the filters as columns, filter by filter."""
        copies = np.einsum("yai,xbj,fcij->fabcyx", rows, columns, filters, optimize=True)
        return copies.reshape(copies.shape[0] * copies.shape[1] * copies.shape[2], -1).T

    if "penalty" not in arrays:
        models = _models(
            arrays, lambda theta: (matrix(theta), options["penalty"], l2_penalty), options
        )
        return Kind(ConvolutionalSparseCoding, arrays, options, models)

    def parts(theta: Array) -> tuple[Array, Any, Any]:
        penalty = np.repeat(np.exp(theta[:, -1]), rows.shape[1] * columns.shape[1])
        return matrix(theta[:, :-1].reshape(dictionary.shape)), penalty, l2_penalty

    theta = np.hstack([dictionary.reshape(len(dictionary), -1), np.log(arrays["penalty"])[:, None]])
    models = _models(arrays | {"dictionary": theta}, parts, options)
    return Kind(ThresholdedConvolutionalSparseCoding, arrays, options, models)


def _models(
    arrays: dict[str, Array],
    parts: Callable[[Array], tuple[Array, Any, Any]],
    options: dict[str, Any],
) -> dict[str, Model]:
    """Return the models with the lasso and reconstruction losses, for the parameter under the name
    of the dictionary.
    """
    observations = arrays["observations"].reshape(len(arrays["observations"]), -1)
    targets = arrays.get("targets", observations).reshape(observations.shape)

    def reconstruction(codes: Array, theta: Array) -> Array:
        residual = targets - codes @ parts(theta)[0].T
        return (residual * residual).sum(1) / 2

    def lasso(codes: Array, theta: Array) -> Array:
        _, penalty, l2_penalty = parts(theta)
        penalties = penalty * codes * np.sign(codes.real) + l2_penalty * codes * codes / 2
        return reconstruction(codes, theta) + penalties.sum(1)

    losses, nonnegative = (
        {"lasso": lasso, "reconstruction": reconstruction},
        options.get("nonnegative", False),
    )
    return {
        name: Model(observations, arrays["dictionary"], parts, loss, nonnegative)
        for name, loss in losses.items()
    }


def penalty_selection(arrays: dict[str, Array], **options: Any) -> Kind:
    """Model lasso regressions with held-out data."""

    def losses(codes: Array, theta: Array) -> Array:
        residual = codes @ arrays["held_out_design"].T - arrays["held_out_observations"]
        return (residual * residual).sum(1) / 2

    def parts(theta: Array) -> tuple[Array, Any, Any]:
        return arrays["design"], np.exp(theta), 0.0

    model = Model(
        arrays["observations"],
        arrays["log_penalty"],
        parts,
        losses,
        options.get("nonnegative", False),
    )
    return Kind(PenaltySelection, arrays, options, {"held_out": model})


def ridge(arrays: dict[str, Array], **options: Any) -> Kind:
    """Model a ridge regression, whose strength is the outer parameter."""

    def parts(theta: Array) -> tuple[Array, Any, Any]:
        return arrays["dictionary"], 0.0, options["strength"] + theta

    theta = arrays.get("theta", np.zeros(()))
    model = Model(
        arrays["observations"], theta, parts, lambda codes, theta: codes @ arrays["weights"]
    )
    return Kind(Ridge, arrays, options, {"linear": model})
