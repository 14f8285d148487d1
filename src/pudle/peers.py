"""Bases of estimators that call another library, from the optional extra ``peers``; none is
imported before it is needed.
"""

import contextlib
import functools
import importlib
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import distributions
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .algorithms import Algorithm, State
from .algorithms.requirements import MINIMIZER, Need
from .algorithms.unrolling import differentiable, gradients
from .errors import MissingDependency
from .estimator import Contribution, Diagnostics, GradientEstimator, ImplicitEstimator
from .problems import Problem, SparseCoding

#: An array of jax, whose types are known only where it is installed, or several of them.
Array = Any

#: A class derived from it may have another residual, which no library would see.
PLAIN_SPARSE_CODING = Need(
    "SparseCoding itself, in a dense dictionary",
    lambda problem, _: None if type(problem) is SparseCoding else type(problem).__name__,
)
ONE_PENALTY = Need(
    "one penalty for all atoms",
    lambda problem, _: (
        "one for each" if isinstance(getattr(problem, "penalty", None), Tensor) else None
    ),
)
ON_CPU = Need(
    "a problem on the CPU",
    lambda problem, _: None if (device := problem.theta.device).type == "cpu" else f"on {device}",
)


class AdjointSolution(NamedTuple):
    """The solution of the linear systems of an implicit gradient by another library."""

    #: The gradient through the codes, shape of the dictionary.
    through_codes: Tensor
    #: The solution of the linear systems, shape of the codes.
    solution: Tensor
    diagnostics: Diagnostics


def require(module: str, extra: str = "peers") -> Any:
    """Import a module of an optional extra; where it is not installed, `MissingDependency` says
    what to install.

    Deprecation warnings while it is imported are hidden.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"install pudle[{extra}]: {error.name or module} is not installed"
        ) from None


@functools.cache
def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each distribution, empty where it is absent."""
    return {name: _version(name) for name in packages}


def _version(name: str) -> str:
    """Return the installed version of a distribution; empty where it is absent."""
    for distribution in distributions(name=name):
        return distribution.version
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide a library's deprecation warnings: they address its authors, and the caller cannot act on
    them.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


class Peer(GradientEstimator):
    """An estimator by another library, for sparse coding in a dense dictionary by soft
    thresholding.
    """

    #: The libraries that it calls, the one that it cannot do without last.
    distributions: ClassVar[tuple[str, ...]]
    needs: tuple[Need, ...] = (PLAIN_SPARSE_CODING, ONE_PENALTY, MINIMIZER)

    def fingerprint(self) -> str:
        return str(versions(*self.distributions))

    def check_supported(self, problem: Problem, algorithm: Algorithm) -> None:
        """Raise `UnsupportedProblem` where the library cannot treat this, `MissingDependency` where
        it is absent; imports the library.
        """
        super().check_supported(problem, algorithm)
        require(self.distributions[-1])


class ImplicitPeer(Peer, ImplicitEstimator):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at the codes z_T by
    another library.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step. The residual in the
    diagnostics is evaluated here, not taken from the library.
    """

    computes = "implicit"

    @abstractmethod
    def solve(
        self, problem: SparseCoding, step: float, codes: Tensor, code_gradient: Tensor
    ) -> AdjointSolution:
        r"""Solve :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` by the library, for one
        layer of a `step`; return :math:`(\partial_D \Phi)^\top v` as well, and diagnostics.
        """

    def through_codes(
        self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor
    ) -> Contribution:
        """Solve by the library, and return the gradient through the codes, without an adjoint.

        To the library's diagnostics it adds ``layers`` and ``largest_relative_residual``, computed
        by torch.
        """
        assert isinstance(problem, SparseCoding)  # as `needs` says
        step = algorithm.step_size(problem)
        solved = self.solve(problem, step, state.codes, code_gradient)
        with torch.enable_grad():
            leaf = state.codes.detach().requires_grad_()
            (carried,) = gradients(
                algorithm.proximal_step(problem, leaf, step, 0), (leaf,), solved.solution
            )
        residual = relative_residual(solved.solution - carried - code_gradient, code_gradient)
        return solved.through_codes, {
            "layers": state.iteration + solved.diagnostics.get("layers_differentiated", 0),
            **solved.diagnostics,
            "largest_relative_residual": residual,
        }


@torch.enable_grad()
def pull_back(
    problem: SparseCoding,
    codes: Tensor,
    weights: Tensor,
    implicit: Callable[[SparseCoding, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Return the gradient, in the dictionary, of codes that a torch library makes as an implicit
    function, and the solution of its linear systems.

    ``implicit(problem, offset)`` returns the codes. The offset, zero, is added to what vanishes
    there or is mapped to itself: its gradient is the solution. It gets a copy of the problem with
    the dictionary that is differentiated; the problem itself is not changed. The `weights` are the
    gradient of the loss in the codes.
    """
    live, dictionary = differentiable(problem)
    offset = torch.zeros_like(codes).requires_grad_()
    through_codes, solution = gradients(implicit(live, offset), (dictionary, offset), weights)
    return through_codes, solution


class JaxImplicitPeer(ImplicitPeer):
    """Implicit differentiation by a library in jax, compiled once for each shape and precision."""

    needs = (*Peer.needs, ON_CPU)
    #: Number of samples whose systems are in memory at a time.
    chunk: ClassVar[int] = sys.maxsize

    @abstractmethod
    def minimizer(self, nonnegative: bool, rounding: float) -> Callable[..., Array]:
        """Return the codes of one sample as a function of what `layer` takes but the last argument.

        Its derivative in the dictionary and the offset is that of the fixed point of `layer`.
        """

    @functools.cache  # noqa: B019  # estimators are few, and equal ones share what is compiled
    def program(self, nonnegative: bool, rounding: float) -> Callable[..., Array]:
        """Compile the gradient through the implicit functions of all samples.

        It takes dictionary, codes, observations, code gradient, step, penalty and l2 penalty, and
        returns the gradient in the dictionary and that in the offsets, which is the solution of the
        linear systems.

        It is compiled when it is first called with a shape, and stays in memory for the process.
        """
        jax = require("jax")

        def pull_back(
            dictionary: Array,
            codes: Array,
            observations: Array,
            code_gradient: Array,
            *constants: Array,
        ) -> Array:
            """Return the gradients of the codes, weighted by the code gradient, in dictionary and
            offsets.
            """

            def weighted_codes(dictionary: Array, offsets: Array) -> Array:
                over_samples = jax.vmap(
                    self.minimizer(nonnegative, rounding), (0, None, 0, 0, None)
                )
                moved = over_samples(codes, dictionary, offsets, observations, constants)
                return (moved * code_gradient).sum()

            return jax.grad(weighted_codes, (0, 1))(dictionary, 0 * codes)

        compiled: Callable[..., Array] = jax.jit(pull_back)
        return compiled

    def solve(
        self, problem: SparseCoding, step: float, codes: Tensor, code_gradient: Tensor
    ) -> AdjointSolution:
        """Solve the systems of all samples by the compiled program, `chunk` of them at a time; the
        diagnostics count them as ``solves``.
        """
        program = self.program(problem.nonnegative, torch.finfo(codes.dtype).eps)
        constants = step, problem.penalty, problem.l2_penalty
        tensors = codes, problem.observations, code_gradient
        chunks = zip(*(torch.split(tensor, self.chunk) for tensor in tensors), strict=True)
        shares, solutions = zip(
            *(
                run_jax(program, problem.dictionary, *chunk, constants=constants)
                for chunk in chunks
            ),
            strict=True,
        )
        through_codes = functools.reduce(torch.add, shares)
        return AdjointSolution(through_codes, torch.cat(solutions), {"solves": len(codes)})


def relative_residual(residual: Tensor, right_hand_side: Tensor) -> float:
    """Return the largest ratio over samples of the residual's norm to the right-hand side's; the
    norm where that is zero.
    """
    sizes: Tensor = residual.norm(dim=1)
    scales: Tensor = right_hand_side.norm(dim=1)
    return float((sizes / torch.where(scales > 0, scales, 1)).max())


def run_jax(
    program: Callable[..., Array], *tensors: Tensor, constants: Iterable[float | Tensor] = ()
) -> list[Tensor]:
    """Call a jax function on tensors and plain numbers, on the CPU and in the precision of the
    first tensor; return copies of its results as tensors.

    jax computes in float32 unless a setting of the process says otherwise. That setting stays as it
    is: the precision is that of this call and this thread alone.
    """
    jax, double = require("jax"), tensors[0].dtype == torch.float64
    with quiet(), jax.enable_x64(double), jax.default_device(jax.devices("cpu")[0]):
        arrays = (jax.numpy.asarray(tensor.detach().numpy()) for tensor in tensors)
        # Copies in numpy: the next operation outside the context would turn float64 arrays of jax
        # into float32.
        return [torch.from_numpy(np.array(result)) for result in program(*arrays, *constants)]


def layer(
    codes: Array,
    dictionary: Array,
    offset: Array,
    observation: Array,
    constants: Array,
    nonnegative: bool,
) -> Array:
    """Run one proximal gradient layer on one sample's arrays, and add an offset that is zero but
    has a derivative.

    `constants` are the step, the penalty and the l2 penalty.
    """
    step, penalty, l2_penalty = constants
    slope = (codes @ dictionary.T - observation) @ dictionary + l2_penalty * codes
    return soft(codes - step * slope, step * penalty, nonnegative) + offset


def soft(values: Array, threshold: Array, nonnegative: bool) -> Array:
    """Soft-threshold arrays of any library; of values that may not be negative, the negative ones
    become zero.
    """
    return (
        (values - threshold).clip(min=0)
        if nonnegative
        else values - values.clip(-threshold, threshold)
    )
