"""A layer under audit with what is known besides: the equation that it solves, a tighter solver,
and what its calls show.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..streams import generator
from .differences import EPS
from .distances import EXACT, ROUNDED
from .equation import Equation, ImplicitGradients, implicit_gradients
from .layer import Array, Layer, only_single, reals

#: Calls in which a random layer returns the same value at most by rare chance.
CALLS = 20
#: How far away the layer is called to see whether it remembers a call.
ELSEWHERE = 0.1
#: Entries of inputs and outputs up to which their Jacobian is looked at for a mistake.
MOST_ENTRIES = 256


@dataclass(frozen=True, eq=False)
class AuditedLayer:
    """A layer, its equation if one is given (``residual`` or ``step`` and the function), and its
    tighter solver. All is in units of the parts.
    """

    layer: Layer
    given_equation: tuple[str, Callable[..., object]] | None
    tighten: Callable[..., object] | str | None

    def runs(self) -> bool:
        """Tell whether the layer takes its inputs in this precision."""
        # The first call of all is elsewhere: a layer may keep what it finds in its first.
        _ = self.elsewhere
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            return bool(self.outputs)
        return False

    @cached_property
    def outputs(self) -> list[Array]:
        """What the layer returns in its first call with the inputs that are given."""
        return self.call()

    def call(self) -> list[Array]:
        """Return what the layer returns for the inputs that are given."""
        tensors = reals(self.layer.outputs(self.layer.theta))
        return [tensor.double().numpy(force=True) for tensor in tensors]

    @cached_property
    def n_values(self) -> int:
        """How many different losses as many calls with the same inputs lead to."""
        return len({self.layer.value(self.layer.theta) for _ in range(CALLS)})

    @cached_property
    def in_double(self) -> bool:
        """True if the layer computes in float64."""
        given = all(part.tensor.dtype == torch.float64 for part in self.layer.parts)
        return given and not only_single(self.outputs)

    @property
    def precision(self) -> float:
        """Rounding of the layer's numbers, relative to them."""
        return EPS if self.in_double else float(torch.finfo(torch.float32).eps)

    @property
    def rounding(self) -> float:
        """Share of a gradient that the layer's precision may lose."""
        return EXACT if self.in_double else ROUNDED

    @property
    def has_large_jacobian(self) -> bool:
        """True if the Jacobian of inputs and outputs is too large to be looked at."""
        n_outputs = sum(output.size for output in self.outputs)
        return max(len(self.layer.theta), n_outputs) > MOST_ENTRIES

    @cached_property
    def elsewhere(self) -> Tensor:
        """A theta a little away, if the layer has a value there."""
        with contextlib.suppress(Exception):
            moved = self.layer.theta + ELSEWHERE * self.random_direction("elsewhere")
            self.layer.outputs(moved)
            return moved
        return self.layer.theta

    def random_direction(self, purpose: str) -> Tensor:
        """Return a direction in theta that is drawn for a purpose."""
        theta = self.layer.theta
        random = generator(self.layer.seed, f"audit {purpose}")
        return torch.as_tensor(random.standard_normal(len(theta))).to(theta)

    @cached_property
    def equation(self) -> Equation | None:
        """The equation that is given, at the layer's solution.

        Raises
        ------
        UnsupportedProblem
            If the layer's output is no solution that it can be linearized at.
        """
        return Equation(self.layer, *self.given_equation) if self.given_equation else None

    @cached_property
    def implicit(self) -> ImplicitGradients | None:
        """The gradients by the implicit function theorem, None without an equation.

        Raises
        ------
        UnsupportedProblem
            If there are none.
        """
        if self.equation is None:
            return None
        return implicit_gradients(self.equation, self.random_direction("of an equation"))


def has_finite_outputs(audited: AuditedLayer) -> bool:
    """Tell whether all that the layer returns is finite."""
    return all(np.isfinite(output).all() for output in audited.outputs)
