"""The abstract problem: an outer parameter, an inner objective with a smooth part and a penalty,
and an outer loss.
"""

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..short_repr import short_repr
from ..threads import torch_threads
from ..validation import check_alike, check_tensor
from .linearized import Linearized, Solution

#: A thresholding rule, called as ``rule(values, threshold, iteration, nonnegative)``: see
#: `pudle.algorithms.thresholding`.
ThresholdingRule = Callable[[Tensor, float | Tensor, int, bool], Tensor]


class _FieldNamedByParameter:
    """An attribute that a field of the same name takes the place of."""

    def __get__(self, problem: "Problem | None", owner: type) -> Tensor:
        if problem is None:
            # A dataclass takes an attribute of the class for the default of a field.
            raise AttributeError("theta belongs to an object")
        theta: Tensor = getattr(problem, problem.parameter)
        return theta


class Problem(ABC):
    """A loss that depends on its parameter both directly and through the output of an inner
    algorithm.

    The inner problem is ``z(theta) = argmin_z f(z, theta) + h(z, theta)`` for every sample, with f
    smooth and h a penalty with a proximal map. The outer loss is the mean over samples of ``loss(z,
    theta)``. Problems are immutable: `with_theta` returns a copy at another parameter. A concrete
    problem is a frozen dataclass that keeps its parameter in the field named by `parameter`.

    Attributes
    ----------
    parameter : str
        Name of the field that holds theta.
    symmetric : bool
        Whether the Jacobian of `stationarity` in the codes is symmetric by construction, as that of
        a gradient is; where it is not known, estimators that need it test it.
    joint : bool
        Whether the rows of the codes are no samples with inner problems of their own, but form one
        system.
    default_algorithm : str
        Spec of the algorithm that runs the problem where none is named.
    """

    parameter: str
    #: Samples, by which other fields are checked.
    observations: Tensor
    symmetric: ClassVar[bool] = False
    joint: ClassVar[bool] = False
    default_algorithm: ClassVar[str] = "ista"
    #: Fields with one row per sample, on which nothing but the rows of the codes depends; see
    #: `pudle.split`.
    per_sample: ClassVar[tuple[str, ...]] = ()

    __repr__ = short_repr

    #: Outer parameter: gradients are taken with respect to it.
    theta: Tensor = _FieldNamedByParameter()  # type: ignore[assignment]  # a descriptor

    def with_theta(self, theta: Tensor) -> Self:
        """Return a copy at another value of the parameter, through which gradients flow.

        The copy keeps a `lipschitz_constant` that was already computed, because the step of an
        unrolled program is a constant of that program. To make a new problem at a new parameter,
        use `dataclasses.replace`.

        Raises
        ------
        InvalidArgument
            If theta is complex or of another shape.
        """
        shape = self.theta.shape
        if not theta.is_floating_point() or theta.shape != shape:
            raise InvalidArgument(
                f"theta is {theta.dtype} of shape {tuple(theta.shape)}: give real numbers of shape"
                f" {tuple(shape)}"
            )
        return self._copy(self.fields_at(theta))

    def sample_fields(self) -> dict[str, Tensor]:
        """Return the values of the fields in `per_sample` that are not None, by name."""
        values = {name: getattr(self, name) for name in self.per_sample}
        return {name: value for name, value in values.items() if value is not None}

    def with_samples(self, **fields: Tensor) -> Self:
        """Return a copy with other samples: values of the fields in `per_sample`, of which those
        not given become None. Values are not checked.

        What was computed of the problem stays, such as its `lipschitz_constant`, because it does
        not depend on the samples.
        """
        return self._copy({name: fields.get(name) for name in self.per_sample})

    def _copy(self, fields: dict[str, Any]) -> Self:
        """Return a shallow copy with other values of some fields, which are not checked, and with
        all that was computed of the problem.
        """
        copied = copy.copy(self)
        vars(copied).update(fields)
        return copied

    def fields_at(self, theta: Tensor) -> dict[str, Any]:
        """Return the fields that hold a value of the parameter: the one named by `parameter`,
        unless overridden.
        """
        return {self.parameter: theta}

    @property
    @abstractmethod
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the codes, samples first."""

    @property
    @abstractmethod
    def lipschitz_constant(self) -> float:
        """Lipschitz constant L of f's gradient: the largest eigenvalue of the Hessian of f over all
        samples.
        """

    @property
    def lipschitz_bound(self) -> float:
        """Upper bound on `lipschitz_constant`; equal to it unless a problem knows a bound that is
        much cheaper.
        """
        return self.lipschitz_constant

    def is_lipschitz(self, constant: float) -> bool:
        """Tell whether `constant` is known to be at least L, the Lipschitz constant of f's
        gradient; False may also mean that it is not known.

        Here `lipschitz_bound` decides, without an allowance for its rounding. A problem may have an
        answer of its own that is cheaper. A copy made by `with_theta` may give the answer of the
        problem that it was made from, as it keeps a `lipschitz_constant`.
        """
        return self.lipschitz_bound <= constant

    @abstractmethod
    def smooth_gradient(self, codes: Tensor) -> Tensor:
        """Return the gradient of f in the codes, per sample; same shape as the codes."""

    @abstractmethod
    def prox(
        self, values: Tensor, step: float, thresholding: ThresholdingRule, iteration: int
    ) -> Tensor:
        """Return the proximal map of ``step * h`` at some values, in the codes' shape, carried out
        by the algorithm's thresholding rule at this iteration.
        """

    @abstractmethod
    def outer_loss(self, codes: Tensor) -> Tensor:
        """Return the mean of the outer loss over samples: a scalar, differentiable in the codes and
        in theta.
        """

    @abstractmethod
    def active(self, codes: Tensor) -> Tensor:
        """Return a boolean mask of the code entries at which the penalty is smooth: the support."""

    @abstractmethod
    def stationarity(self, codes: Tensor) -> Tensor:
        """Return F, the gradient of f + h on the active entries, zero at a minimizer; other entries
        are arbitrary.
        """

    @abstractmethod
    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        """Solve ``H_SS v_S = r_S`` per sample, with H the Hessian of f and S the active set; v is
        zero outside S.

        A problem that is no minimization solves the adjoint system, with the transposed Jacobian of
        `stationarity` for H. The problem and its arguments stay as they are.

        Returns
        -------
        solution : Tensor
            Shape of the codes.
        diagnostics : dict
            At least ``condition_number``, the largest over samples, and ``singular``, the number of
            singular systems, for which the solution is the minimum-norm one.
        """

    def solve_tangent(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        """Solve the system of `solve_active` with the Jacobian that is not transposed, and return
        solution and diagnostics as it does.

        By default it is `solve_active` itself, which is right where the Jacobian is symmetric;
        others override it.
        """
        return self.solve_active(codes, right_hand_side)

    def linearized(self, codes: Tensor) -> Linearized:
        """Return the derivative of `stationarity` in the codes, by products with vectors; nothing
        is computed yet.
        """
        return Linearized(
            self.stationarity, codes, joint=self.joint, known_symmetric=self.symmetric
        )

    def piece(self, codes: Tensor) -> Tensor:
        """Return the active set as a mask, or for the l1 norm the signs of the codes: what is
        constant where the penalty is smooth.
        """
        return self.active(codes)

    def initial_codes(self) -> Tensor:
        """Return all-zero codes with the parameter's dtype and device."""
        # Threads of torch wait for their next work by computing, for milliseconds in which blocks
        # of samples would need their cores.
        with torch_threads(1):
            return self.theta.new_zeros(self.code_shape)

    def check_codes(self, name: str, codes: Tensor) -> None:
        """Refuse, by InvalidArgument, codes, which `name` names, of another shape, dtype or device
        than the problem's own.
        """
        if codes.shape != self.code_shape:
            raise InvalidArgument(
                f"{name} has shape {tuple(codes.shape)}: codes here have shape {self.code_shape}"
            )
        check_alike(name, codes, self.parameter, self.theta)

    def _convert(self, **axes: str) -> None:
        """Convert the fields named, in place, to tensors, and refuse, by InvalidArgument, those
        that are not finite or do not fit each other; a field that is None stays so.

        All must have the dtype and the device of the observations. The axes of each, such as
        ``dictionary="(m, p)"``, have the same size where they have the same letter.
        """
        sizes: dict[str, tuple[int, str]] = {}
        for name, shape in axes.items():
            if getattr(self, name) is None:
                continue
            tensor = check_tensor(name, getattr(self, name), shape)
            object.__setattr__(self, name, tensor)
            check_alike(name, tensor, "observations", self.observations)
            for letter, size in zip(re.findall(r"\w+", shape), tensor.shape, strict=True):
                due, owner = sizes.setdefault(letter, (size, f"{name} {shape}"))
                if size != due:
                    raise InvalidArgument(
                        f"{name} has shape {tuple(tensor.shape)}: give {shape} with"
                        f" {letter} = {due}, as in {owner}"
                    )


class SmoothProblem(Problem):
    """A problem without a penalty."""

    def prox(
        self, values: Tensor, step: float, thresholding: ThresholdingRule, iteration: int
    ) -> Tensor:
        return values

    def active(self, codes: Tensor) -> Tensor:
        return torch.ones_like(codes, dtype=torch.bool)

    def stationarity(self, codes: Tensor) -> Tensor:
        return self.smooth_gradient(codes)
