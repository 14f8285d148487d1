"""Whether a layer's backward pass is linear in the gradient that comes in, as every derivative is.

Sizes of the incoming gradient are powers of two: a backward pass that is linear then returns the
same digits at every size, in any precision, as long as nothing overflows or underflows.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .differences import BEYOND, RESOLVED
from .distances import norm
from .layer import Array, Layer, is_number_tensor
from .mistakes import Mistake, MistakeKind

#: Sizes that are tried, by the least precise numbers that the backward pass computes with: two to
#: the power of this and of its negative, about 1e6 and 1e-6 in float64.
EXPONENTS = {torch.float64: 20, torch.float32: 10, torch.bfloat16: 10, torch.float16: 5}
#: A size that overflow or underflow leaves closer to one than this tells nothing.
LEAST_EXPONENT = 3
#: Binary digits that stay free below the largest number, and above the smallest one.
HEADROOM, DIGITS = 2, 11
#: A solver in the backward pass may stop at an absolute tolerance, but does not shrink a large
#: gradient by so much.
SOLVER_SHRINKS = 16.0


class Nonlinearity(NamedTuple):
    """How the gradient in one part is not linear in the one that comes in.

    Attributes
    ----------
    mistake : Mistake
    error : float
        Distance from what a linear backward pass would return, relative to the larger norm.
    size : float
        Size of the incoming gradient at which this is so, relative to the usual one; 1 where it is
        a sum of two.
    """

    mistake: Mistake
    error: float
    size: float


class Incoming(NamedTuple):
    """A gradient that comes in: multiples of that of the loss, and of that of a second loss."""

    of_loss: float
    of_second: float = 0.0


@dataclass(frozen=True, eq=False)
class Responses:
    """The gradients for incoming ones of several sizes, each divided by its size, and for sums.

    Attributes
    ----------
    usual, large, small : ndarray
        At the sizes 1, ``2**up`` and ``2**-down``.
    half_large, twice_small : ndarray
        At half and at twice of these.
    second, total, third : ndarray
        For the second loss, for the sum of both losses, and for the loss times three.
    range : Range
        The exponents, and how precise the numbers are.
    """

    usual: Array
    large: Array
    small: Array
    half_large: Array
    twice_small: Array
    second: Array
    total: Array
    third: Array
    range: "Range"


def nonlinearities(layer: Layer, gradient: Array, precise: bool) -> list[Nonlinearity | None]:
    """Test whether a layer's gradient is linear in what comes in; return for each part how it is
    not, or None.

    A quick look through one graph suffices where it is; else each response is computed afresh, and
    twice, at sizes at which nothing overflows or underflows, and a solver inside the backward pass
    is allowed its tolerance. Where two responses differ, nothing is said.

    Parameters
    ----------
    layer : Layer
    gradient : ndarray
        Its gradient.
    precise : bool
        Whether it computes in float64.
    """
    if looks_linear(layer, gradient):
        return [None] * len(layer.parts)
    responses = steady_responses(layer, gradient, precise)
    if responses is None:
        return [None] * len(layer.parts)
    has_loop = layer.backward_has_loop
    return [nonlinearity(responses, part.span, has_loop) for part in layer.parts]


def looks_linear(layer: Layer, gradient: Array) -> bool:
    """Return whether responses through one graph are those of a linear backward pass; False as well
    where the graph cannot be used twice.
    """
    exponent = EXPONENTS[torch.float64]
    large, small = 2.0**exponent, 2.0**-exponent
    incoming = [Incoming(large), Incoming(small), Incoming(0.0, 1.0), Incoming(1.0, 1.0)]
    try:
        at_large, at_small, second, total = layer.responses(incoming)
    except Exception:  # noqa: BLE001  # such as of a graph that is used twice
        return False
    pairs = [(at_large / large, gradient), (at_small / small, gradient), (total, gradient + second)]
    return all(
        relative_distance(response[part.span], linear[part.span]) <= RESOLVED
        for response, linear in pairs
        for part in layer.parts
    )


def relative_distance(response: Array, linear: Array) -> float:
    """Return the distance of two arrays relative to the larger norm, infinite if one is not
    finite.
    """
    if not (np.isfinite(response).all() and np.isfinite(linear).all()):
        return np.inf
    return norm(response - linear) / (max(norm(response), norm(linear)) or 1.0)


def steady_responses(layer: Layer, gradient: Array, precise: bool) -> Responses | None:
    """Return the responses, or None if one differs when computed again, the first is not the given
    gradient, or the layer raises an error.
    """
    usable = usable_range(layer, precise)
    up, down = usable.up, usable.down

    def response(of_loss: float, of_second: float = 0.0) -> Array:
        """Return the gradient for an incoming one, divided by its size; raise ArithmeticError if a
        second call gives another.
        """
        first, second = (layer.responses([Incoming(of_loss, of_second)])[0] for _ in range(2))
        if any(
            relative_distance(first[part.span], second[part.span]) > RESOLVED
            for part in layer.parts
        ):
            raise ArithmeticError("the backward pass returns something else when called again")
        return first / (of_loss or 1.0)

    try:
        usual = response(1.0)
        if any(
            relative_distance(usual[part.span], gradient[part.span]) > RESOLVED
            for part in layer.parts
        ):
            return None
        return Responses(
            usual,
            large=response(2.0**up),
            small=response(2.0**-down),
            half_large=response(2.0 ** (up - 1)),
            twice_small=response(2.0 ** (1 - down)),
            second=response(0.0, 1.0),
            total=response(1.0, 1.0),
            third=response(3.0),
            range=usable,
        )
    except Exception:  # noqa: BLE001  # whatever a layer raises at another size is no answer
        return None


def nonlinearity(responses: Responses, span: slice, has_loop: bool) -> Nonlinearity | None:
    """Return how the gradient in a part is not linear, or None if it is as far as can be told.

    Where a loop runs in the backward pass it may be a solver: of the large sizes, at which an
    absolute tolerance is the least of its errors, only a bounded gradient counts.
    """
    usual, large, small = (
        part[span] for part in (responses.usual, responses.large, responses.small)
    )
    up, down, precision, underflow, _ = responses.range
    off_large = relative_distance(large, usual) if up else 0.0
    off_small = relative_distance(small, usual) if down else 0.0
    if has_loop:
        bounded = norm(large) * SOLVER_SHRINKS < norm(usual)
        off_large, off_small = (off_large if bounded else 0.0), 0.0
    deviations = [(off_large, 2.0**up), (off_small, 2.0**-down)]
    error, size = max(pair if np.isfinite(pair[0]) else (0.0, 1.0) for pair in deviations)
    if error > RESOLVED + BEYOND * underflow:
        return Nonlinearity(Mistake(kind_of(responses, span)), error, size)
    if has_loop:
        return None
    second = responses.second[span]
    total, linear = responses.total[span], usual + second
    error = relative_distance(total, linear)
    # A factor of three rounds all products anew, by chance to the same numbers. What two gradients
    # lose before they cancel counts as well, and what terms lose that cancel inside one of them.
    lost = max(precision, underflow) * (norm(usual) + norm(second))
    lost = max(lost, responses.range.rounding)
    size = max(norm(total), norm(linear)) or 1.0
    rounding = max(norm(responses.third[span] - usual), lost) / size
    if RESOLVED + BEYOND * rounding < error < np.inf:
        return Nonlinearity(Mistake(MistakeKind.NOT_LINEAR), error, 1.0)
    return None


def kind_of(responses: Responses, span: slice) -> MistakeKind:
    """Classify a gradient that is not proportional to the one that comes in, by its size at large
    and small ones: not multiplied, clipped, thresholded, or else not linear.
    """
    usual, large, small, half_large, twice_small = (
        part[span]
        for part in (
            responses.usual,
            responses.large,
            responses.small,
            responses.half_large,
            responses.twice_small,
        )
    )
    sizes = 2.0**responses.range.up, 2.0**-responses.range.down
    returned = large * sizes[0], small * sizes[1]
    if all(relative_distance(array, usual) <= RESOLVED for array in returned):
        return MistakeKind.NOT_MULTIPLIED
    linear_below = bool(small.any()) and relative_distance(twice_small, small) <= RESOLVED
    linear_above = relative_distance(half_large, large) <= RESOLVED
    bounded = norm(large) < norm(usual) or norm(usual) < norm(small)
    # One that is bounded from one side alone is linear on the other, with another matrix.
    if linear_below and (bounded or linear_above):
        return MistakeKind.CLIPPED
    if linear_above:
        return MistakeKind.THRESHOLDED
    return MistakeKind.CLIPPED if bounded and not small.any() else MistakeKind.NOT_LINEAR


# --- sizes that a layer's numbers allow


# A class of torch's without types.
class Magnitudes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records by dtype the largest entry, the smallest root mean square that is not zero, and the
    faintest entry beside the largest one of its tensor, of what torch computes.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler, for a second, and call it for each operation.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.largest = dict[torch.dtype, float]()
        self.smallest = dict[torch.dtype, float]()
        self.faintest = dict[torch.dtype, float]()

    def __torch_dispatch__(
        self, function: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        computed = function(*args, **kwargs or {})
        for tensor in filter(is_number_tensor, tree_leaves(computed)):
            if tensor.numel():
                self.record(tensor.detach())
        return computed

    def record(self, tensor: Tensor) -> None:
        """Record the largest entry of a tensor and, unless all are zero, its root mean square and
        the faintest entry that counts beside the largest; changes what is recorded here, not the
        tensor.
        """
        sizes = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).abs()
        dtype = sizes.dtype
        largest = float(sizes.max())
        self.largest[dtype] = max(largest, self.largest.get(dtype, 0.0))
        if largest > 0:
            root_mean_square = float(sizes.double().square().mean()) ** 0.5
            self.smallest[dtype] = min(root_mean_square, self.smallest.get(dtype, np.inf))
            # What follows may make much of such an entry, but hardly of one fainter still.
            faintest = float(sizes[sizes > torch.finfo(dtype).eps ** 2 * largest].min())
            self.faintest[dtype] = min(faintest, self.faintest.get(dtype, np.inf))


class Range(NamedTuple):
    """The sizes of the incoming gradient at which a backward pass can be tested, and how precisely.

    Attributes
    ----------
    up, down : int
        The exponents to which it can be scaled without overflow and underflow inside the backward
        pass, zero where that is next to nothing.
    precision : float
        Relative precision of the least precise numbers that the backward pass computes with.
    underflow : float
        What its faintest numbers lose at the usual size, relative to them, because they lie near
        the smallest ones that there are: numbers of float16 often do.
    rounding : float
        What the largest number inside the backward pass loses to rounding, at the usual size.
    """

    up: int
    down: int
    precision: float
    underflow: float
    rounding: float


def usable_range(layer: Layer, precise: bool) -> Range:
    """Run a layer's backward pass twice, and return the sizes at which it can be tested: none where
    something is not finite.
    """
    magnitudes = Magnitudes()
    layer.responses([Incoming(1.0)], magnitudes)
    widest = EXPONENTS[torch.float64 if precise else torch.float32]
    up = down = widest
    precision = underflow = rounding = 0.0
    for dtype, largest in magnitudes.largest.items():
        number, usual = torch.finfo(dtype), EXPONENTS.get(dtype, LEAST_EXPONENT)
        up, down = min(up, usual), min(down, usual)
        if not largest < np.inf:
            return Range(0, 0, np.inf, np.inf, np.inf)
        precision = max(precision, number.eps)
        rounding = max(rounding, number.eps * largest)
        if largest > 0:
            spacing = number.smallest_normal * number.eps
            up = min(up, int(np.log2(number.max) - np.log2(largest)) - HEADROOM)
            smallest = max(magnitudes.smallest[dtype], spacing)
            down = min(down, int(np.log2(smallest) - np.log2(spacing)) - DIGITS)
            underflow = max(underflow, spacing / magnitudes.faintest[dtype])
    # What underflows to zero at the usual size shows at a larger one.
    at_larger = Magnitudes()
    with contextlib.suppress(Exception):
        layer.responses([Incoming(2.0**up)], at_larger)
    for dtype, faintest in at_larger.faintest.items():
        spacing = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
        underflow = max(underflow, 2.0**up * spacing / faintest)
    return Range(
        up if up >= LEAST_EXPONENT else 0,
        down if down >= LEAST_EXPONENT else 0,
        precision,
        underflow,
        rounding,
    )
