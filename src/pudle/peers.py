"""What estimators that call another library share: loading it, refusing what it is not given, checking its solve.

The libraries are those of the optional extra ``peers``. Nothing here imports one before an estimate is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .algorithms import Algorithm, Ista, State
from .algorithms.unrolling import gradients
from .errors import MissingDependency, UnsupportedProblem
from .problems import Problem, SparseCoding

if TYPE_CHECKING:
    from .estimator import GradientEstimator


def require(module: str, extra: str = "peers") -> Any:
    """Import a module of an optional extra.

    Raises
    ------
    MissingDependency
        If it, or something it imports, is not installed; the text says what to install.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependency(f"install pudle[{extra}]: {error.name or module} is not installed") from None


def versions(*distributions: str) -> Mapping[str, str]:
    """Return the installed version of each distribution, empty where it is absent."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out a library's notices of deprecation: they are for its authors, and the caller can do nothing about them."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def check_treatable(
    estimator: GradientEstimator, problem: Problem, algorithm: Algorithm, instead: str, cpu_only: bool = False
) -> SparseCoding:
    """Return the problem if it is sparse coding in a dense dictionary by soft thresholding, or refuse it.

    Parameters
    ----------
    instead : str
        The estimator of this package that does the same and treats more.
    cpu_only : bool
        Whether tensors on other devices are refused as well.
    """
    if not isinstance(problem, SparseCoding):
        raise UnsupportedProblem(
            f"{estimator.name} treats SparseCoding with a dense dictionary, not {type(problem).__name__}: use {instead}"
        )
    if not algorithm.thresholding.proximal:
        raise UnsupportedProblem(
            f"{estimator.name} treats soft thresholding, not {algorithm.thresholding.name}: use {instead}"
        )
    if cpu_only and problem.theta.device.type != "cpu":
        raise UnsupportedProblem(
            f"{estimator.name} computes on the CPU and the problem is on {problem.theta.device}: "
            f"make the problem on the CPU, or use {instead}"
        )
    return problem


def fixed_point_residual(
    problem: Problem, algorithm: Algorithm, codes: Tensor, code_gradient: Tensor, solution: Tensor
) -> float:
    r"""Largest relative residual over samples of :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` at the codes.

    The map :math:`\Phi` is one proximal gradient layer at the algorithm's step. Evaluated here, so that what a library
    says of its own solve is not taken on trust.
    """
    step = algorithm.step_size(problem)
    with torch.enable_grad():
        leaf = codes.detach().requires_grad_()
        image = Ista(step=step).advance(problem, State(codes=leaf, point=leaf), step).codes
        (carried,) = gradients(image, (leaf,), solution)
    return relative_residual(solution - carried - code_gradient, code_gradient)


def relative_residual(residual: Tensor, right_hand_side: Tensor) -> float:
    """Largest over samples of the residual's norm over that of the right-hand side; the norm itself where that is zero."""
    norms, scales = residual.norm(dim=1), right_hand_side.norm(dim=1)
    return float((norms / torch.where(scales > 0, scales, 1)).max())


# --- jax


@contextlib.contextmanager
def jax_precision(dtype: torch.dtype) -> Iterator[None]:
    """Let jax compute on the CPU, in float64 where `dtype` is that, for the length of the context and in this thread alone.

    jax holds every array to float32 unless a setting of the process says otherwise. The setting is left as it is; but
    arrays that jax made inside and that outlive the context are turned into float32 by the next operation outside, so
    that results must be taken out as numpy arrays before it ends.
    """
    jax = require("jax")
    with quiet(), jax.enable_x64(dtype == torch.float64), jax.default_device(jax.devices("cpu")[0]):
        yield


def to_arrays(tensors: Iterable[Tensor]) -> list[Any]:
    """Return tensors as jax arrays; call it inside `jax_precision`."""
    asarray = require("jax.numpy").asarray
    return [asarray(tensor.detach().numpy()) for tensor in tensors]


def to_tensor(array: Any) -> Tensor:
    """Return a jax array as a tensor with memory of its own."""
    return torch.from_numpy(require("numpy").array(array))


def layer(codes: Any, dictionary: Any, observations: Any, step: float, problem: Mapping[str, Any]) -> Any:
    """One proximal gradient layer on arrays of any library: codes (p,) or (n, p), observations (m,) or (n, m).

    Parameters
    ----------
    problem : mapping
        ``penalty``, ``l2_penalty`` and ``nonnegative``, as `constants` returns them.
    """
    slope = (codes @ dictionary.T - observations) @ dictionary + problem["l2_penalty"] * codes
    return soft(codes - step * slope, step * problem["penalty"], problem["nonnegative"])


def soft(values: Any, threshold: Any, nonnegative: bool) -> Any:
    """Soft threshold on arrays of any library."""
    return (values - threshold).clip(min=0) if nonnegative else values - values.clip(-threshold, threshold)


def constants(problem: SparseCoding) -> dict[str, Any]:
    """Return what `layer` needs beside the arrays, as plain numbers."""
    return {name: getattr(problem, name) for name in ("penalty", "l2_penalty", "nonnegative")}
