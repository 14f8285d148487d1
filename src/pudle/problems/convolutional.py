"""Convolutional sparse coding of images."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import conv2d, conv_transpose2d, fold
from torch.nn.grad import conv2d_weight

from ..errors import InvalidArgument, UnsupportedProblem
from ..streams import generator
from ..validation import check_alike, check_choice, check_integer, check_positive, check_tensor
from .krylov import conjugate_gradients
from .l1 import SPARSE_CODING_LOSSES, L1Problem

#: Relative accuracy asked of the largest curvature. A step of 1/L is safe for any estimate above half of L.
LIPSCHITZ_TOLERANCE = 1e-6
#: Spaces of at most this dimension get a dense matrix: Lanczos needs room.
SMALL = 64
#: Most conjugate gradient iterations for one active system.
MAX_ITERATIONS = 5000
#: Frequencies per degree at which the bound on the curvature is sampled; it is then at most 17 % above the supremum.
SAMPLES_PER_DEGREE = 8


class Axis(NamedTuple):
    """Geometry of the convolution along one axis of the image."""

    codes: int
    padding: int
    extra: int

    @classmethod
    def covering(cls, pixels: int, kernel: int, stride: int) -> Axis:
        """Return the fewest code positions that reach every pixel, what sticks out being cropped evenly at both ends."""
        codes = -(-(pixels - kernel) // stride) + 1
        excess = (codes - 1) * stride + kernel - pixels
        padding = -(-excess // 2)
        return cls(codes, padding, 2 * padding - excess)


class Geometry(NamedTuple):
    """All that the convolution depends on beside its arguments: stride, image, filters, and where they meet."""

    stride: int
    image: tuple[int, int]
    kernel: tuple[int, int]
    padding: tuple[int, int]
    extra: tuple[int, int]


def _images(geometry: Geometry, codes: Tensor, filters: Tensor) -> Tensor:
    patches = filters.flatten(1).T @ codes.flatten(2)
    return fold(patches, geometry.image, geometry.kernel, padding=geometry.padding, stride=geometry.stride)


def _codes(geometry: Geometry, images: Tensor, filters: Tensor) -> Tensor:
    return conv2d(images, filters, stride=geometry.stride, padding=geometry.padding)


def _filters(geometry: Geometry, images: Tensor, codes: Tensor) -> Tensor:
    shape = (codes.shape[1], images.shape[1], *geometry.kernel)
    return conv2d_weight(images, shape, codes, stride=geometry.stride, padding=geometry.padding)


_KERNELS = {"images": _images, "codes": _codes, "filters": _filters}


class _Partial(Function):
    """One of the partial derivatives of the form ``<images, filters * codes>``, which is linear in each of the three.

    They are one another's derivatives, so that this is differentiable to any order, forwards as well as in reverse. It
    exists because float32 on the CPU takes six times as long as it need for a transposed convolution to few channels,
    which is also what differentiates a convolution in its images; by products of matrices it does not.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(role: str, geometry: Geometry, left: Tensor, right: Tensor) -> Tensor:
        return _KERNELS[role](geometry, left, right)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[str, Geometry, Tensor, Tensor], output: Tensor) -> None:
        ctx.role, ctx.geometry, *arguments = inputs
        ctx.save_for_backward(*arguments)
        ctx.save_for_forward(*arguments)

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        others = [role for role in _KERNELS if role != ctx.role]
        values = dict(zip(others, ctx.saved_tensors, strict=True)) | {ctx.role: weights}

        def partial(wanted: str) -> Tensor:
            left, right = (values[role] for role in _KERNELS if role != wanted)
            return _Partial.apply(wanted, ctx.geometry, left, right)

        needed = ctx.needs_input_grad[2:]
        return None, None, *(partial(role) if need else None for role, need in zip(others, needed, strict=True))

    @staticmethod
    def jvp(ctx: Any, _role: None, _geometry: None, *tangents: Tensor | None) -> Tensor:
        (left, right), (change_left, change_right) = ctx.saved_tensors, tangents
        terms = []
        if change_left is not None:
            terms.append(_Partial.apply(ctx.role, ctx.geometry, change_left, right))
        if change_right is not None:
            terms.append(_Partial.apply(ctx.role, ctx.geometry, left, change_right))
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvolutionalSparseCoding(L1Problem):
    """Sparse coding of images by shifted copies of small filters, the filters being the outer parameter.

    The inner problem, per image x, is ``z(D) = argmin_z 1/2 |x - D * z|^2 + penalty |z|_1`` (over z >= 0 where
    `nonnegative`; with ``l2_penalty/2 |z|^2`` added where that is positive), with ``D * z`` the transposed convolution of
    the code maps with the filters at the given stride: the filter D_j, scaled by ``z[j, a, b]``, is put down at pixel
    ``(a stride, b stride)``. There are as few positions as reach every pixel, ``h = ceil((H - k) / stride) + 1`` of them
    along an axis of H pixels with filters of k; where they stick out, the surplus is cropped, half at each end. So every
    image is treated that is at least as large as the filters. The outer loss is a mean over images: ``lasso`` is the
    inner objective itself, ``reconstruction`` is ``1/2 |x - D * z|^2``.

    With `targets` y, such as the clean images of which x are noisy observations, the outer losses compare with these:
    ``1/2 |y - D * z|^2``, and the same with the penalties. Then the codes do not minimize the lasso loss, so that holding
    them constant, or cutting their derivative short, leaves an error on this loss as on the other.

    No matrix is formed. `lipschitz_constant` comes from a Lanczos iteration whose start is always the same: for large
    images it takes longer than ten layers, and an algorithm with a given step does without it; `solve_active` uses conjugate
    gradients.

    Parameters
    ----------
    observations : Tensor, shape (n, c, H, W)
        Images with c channels.
    dictionary : Tensor, shape (p, c, k, k)
        Filters, not necessarily square. The gradient has this shape.
    penalty : float
        Weight of the l1 norm, > 0.
    stride : int
        Distance of neighboring code positions in pixels, at most the filters' size.
    loss : {"lasso", "reconstruction"}
        Outer loss.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.
    l2_penalty : float
        Weight of half the squared l2 norm, >= 0.
    targets : Tensor, shape (n, c, H, W), optional
        What the outer loss compares with; the observations where not given.
    generating_dictionary : Tensor, shape (p, c, k, k), optional
        The filters that generated the images; needed for the targets gstar and gtilde.
    generating_codes : Tensor, shape (n, p, h, w), optional
        The codes that generated them; needed for the target gtilde.

    Raises
    ------
    InvalidArgument
        For tensors that are not finite floating tensors of fitting shapes, images smaller than the filters, a stride that
        leaves gaps, penalty <= 0 or l2_penalty < 0.

    References
    ----------
    Zeiler, Krishnan, Taylor and Fergus, "Deconvolutional networks", CVPR 2010.
    Simon and Elad, "Rethinking the CSC model for natural images", NeurIPS 2019.
    Tolooshams and Ba, "Stable and Interpretable Unrolled Dictionary Learning", TMLR 2022 (64 filters of 9 x 9, stride 4,
    non-negative codes).
    """

    observations: Tensor
    dictionary: Tensor
    penalty: float
    stride: int = 1
    loss: str = "lasso"
    nonnegative: bool = False
    l2_penalty: float = 0.0
    targets: Tensor | None = None
    generating_dictionary: Tensor | None = None
    generating_codes: Tensor | None = None

    parameter = "dictionary"

    def __post_init__(self) -> None:
        def convert(name: str, shape: str) -> Tensor:
            tensor = check_tensor(name, getattr(self, name), shape)
            object.__setattr__(self, name, tensor)
            return tensor

        x, d = convert("observations", "(n, c, H, W)"), convert("dictionary", "(p, c, k, k)")
        check_alike("dictionary", d, "observations", x)
        if d.shape[1] != x.shape[1]:
            raise InvalidArgument(
                f"dictionary has {d.shape[1]} channels and observations {x.shape[1]}: their second axes must agree"
            )
        kernel, image = tuple(d.shape[2:]), tuple(x.shape[2:])
        if image[0] < kernel[0] or image[1] < kernel[1]:
            raise InvalidArgument(
                f"observations are {image[0]} x {image[1]} pixels, smaller than the {kernel[0]} x {kernel[1]} filters: "
                f"give larger images or smaller filters"
            )
        if check_integer("stride", self.stride, 1) > min(kernel):
            raise InvalidArgument(
                f"stride={self.stride} leaves pixels that no filter reaches: give at most {min(kernel)}, the filters' size"
            )
        object.__setattr__(self, "penalty", self._check_penalty())
        object.__setattr__(self, "l2_penalty", check_positive("l2_penalty", self.l2_penalty, allow_zero=True))
        check_choice("loss", self.loss, SPARSE_CODING_LOSSES)
        for name, axes, shape in (
            ("targets", "(n, c, H, W)", tuple(x.shape)),
            ("generating_dictionary", "(p, c, k, k)", tuple(d.shape)),
            ("generating_codes", "(n, p, h, w)", self.code_shape),
        ):
            if getattr(self, name) is not None:
                tensor = convert(name, axes)
                check_alike(name, tensor, "observations", x)
                if tensor.shape != shape:
                    raise InvalidArgument(f"{name} has shape {tuple(tensor.shape)}: it must be {shape} to fit the others")

    def _check_penalty(self) -> float | Tensor:
        return check_positive("penalty", self.penalty)

    def dictionary_of(self, theta: Tensor) -> Tensor:
        """The filters in a value of the parameter, as a view of it, here all of it."""
        return theta

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Geometry along the height and the width."""
        rows, columns = (
            Axis.covering(pixels, kernel, self.stride)
            for pixels, kernel in zip(self.observations.shape[2:], self.dictionary.shape[2:], strict=True)
        )
        return rows, columns

    @property
    def code_shape(self) -> tuple[int, int, int, int]:
        rows, columns = self.axes
        return len(self.observations), len(self.dictionary), rows.codes, columns.codes

    @functools.cached_property
    def lipschitz_constant(self) -> float:
        """Largest eigenvalue of the smooth part's Hessian, by Lanczos iteration, to a relative accuracy of about 1e-6.

        The estimate is a Ritz value, which never exceeds the true L. Gradient steps need it only to a factor of two: 1/L
        of an estimate above half the true value is still below the limit 2/L of divergence. The start is random but always
        the same one; a constant image would not do, for filters without mean hardly see it.
        """
        from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import, and only this needs it

        filters = self.dictionary.detach().to(device="cpu", dtype=torch.float64)
        codes, image = (1, *self.code_shape[1:]), (1, *self.observations.shape[1:])
        in_codes = math.prod(codes) <= math.prod(image)
        shape = codes if in_codes else image

        def square(vectors: Tensor) -> Tensor:
            vectors = vectors.reshape(-1, *shape[1:])
            if in_codes:
                return self._analyze(self._synthesize(vectors, filters), filters).flatten(1)
            return self._synthesize(self._analyze(vectors, filters), filters).flatten(1)

        size = math.prod(shape)
        if size <= SMALL:
            largest = torch.linalg.eigvalsh(square(torch.eye(size, dtype=torch.float64)))[-1]
        else:
            operator = LinearOperator(
                (size, size), matvec=lambda vector: square(torch.as_tensor(vector)).numpy().ravel(), dtype=float
            )
            start = generator(0, "curvature of a convolution").standard_normal(size)
            largest = eigsh(operator, k=1, which="LA", v0=start, tol=LIPSCHITZ_TOLERANCE, return_eigenvectors=False)[0]
        return float(largest) + self.l2_penalty

    @functools.cached_property
    def lipschitz_bound(self) -> float:
        """Upper bound on `lipschitz_constant` in milliseconds, whatever the size of the images.

        The convolution is part of one without borders, whose largest curvature is the supremum over frequencies of the
        largest eigenvalue of the c s^2 x c s^2 matrix ``G G^H``, G being the transform of the filters' subsamplings at the
        stride s. A quadratic form of it is a trigonometric polynomial of degree d, one less than the codes that a filter
        spans along an axis; sampled at N > 2 d equidistant frequencies, it exceeds its largest sample at most by a factor
        of ``1 / cos(pi d / N)`` along each axis.

        References
        ----------
        Ehlich and Zeller, "Schwankung von Polynomen zwischen Gitterpunkten", Mathematische Zeitschrift 1964.
        """
        filters = self.dictionary.detach().to(device="cpu", dtype=torch.float64)
        p, channels, height, width = filters.shape
        down, across = -(-height // self.stride), -(-width // self.stride)
        blocks = torch.nn.functional.pad(filters, (0, across * self.stride - width, 0, down * self.stride - height))
        phases = torch.nn.functional.pixel_unshuffle(blocks, self.stride)
        grid = [SAMPLES_PER_DEGREE * max(taps - 1, 1) for taps in (down, across)]
        transform = torch.fft.rfft2(phases, s=grid).permute(2, 3, 1, 0)
        if p < phases.shape[1]:
            transform = transform.mH
        largest = float(torch.linalg.eigvalsh(transform @ transform.mH)[..., -1].max())
        for taps, samples in zip((down, across), grid, strict=True):
            largest /= math.cos(math.pi * (taps - 1) / samples)
        return largest + self.l2_penalty

    @functools.cached_property
    def geometry(self) -> Geometry:
        rows, columns = self.axes
        (_, _, *image), (_, _, *kernel) = self.observations.shape, self.dictionary.shape
        padding, extra = (rows.padding, columns.padding), (rows.extra, columns.extra)
        return Geometry(self.stride, (image[0], image[1]), (kernel[0], kernel[1]), padding, extra)

    def _synthesize(self, codes: Tensor, filters: Tensor) -> Tensor:
        stride, _, _, padding, extra = geometry = self.geometry
        if _is_slow(codes):
            return _Partial.apply("images", geometry, codes, filters)
        return conv_transpose2d(codes, filters, stride=stride, padding=padding, output_padding=extra)

    def _analyze(self, images: Tensor, filters: Tensor) -> Tensor:
        if _is_slow(images):
            return _Partial.apply("codes", self.geometry, images, filters)
        return _codes(self.geometry, images, filters)

    def synthesize(self, codes: Tensor) -> Tensor:
        """``D * z`` per sample: codes (n, p, h, w) to images (n, c, H, W)."""
        return self._synthesize(codes, self.dictionary)

    def residual(self, codes: Tensor) -> Tensor:
        """``D * z - x`` per sample, shape (n, c, H, W)."""
        return self.synthesize(codes) - self.observations

    def outer_residual(self, codes: Tensor) -> Tensor:
        return self.synthesize(codes) - (self.observations if self.targets is None else self.targets)

    def adjoint(self, residual: Tensor) -> Tensor:
        """Correlation of images (n, c, H, W) with the filters, shape (n, p, h, w)."""
        return self._analyze(residual, self.dictionary)

    def outer_loss(self, codes: Tensor) -> Tensor:
        return SPARSE_CODING_LOSSES[self.loss](self, codes)

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """Hessian of the smooth part times codes (n, p, h, w), without gradient."""
        filters = self.dictionary.detach()
        return self._analyze(self._synthesize(vectors, filters), filters) + self.l2_penalty * vectors

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Solve the active systems by conjugate gradients; see `Problem.solve_active`.

        ``condition_number`` is estimated from the iteration, from below; ``singular`` counts the systems that have more
        unknowns than the image has values, or an estimate beyond working precision. Where such a system has a solution,
        the minimum-norm one is found.

        Raises
        ------
        UnsupportedProblem
            If a residual stays above the square root of the rounding unit, relative to its right-hand side: the system is
            singular without a solution, or too ill-conditioned.
        """
        active = self.active(codes)
        rounding = torch.finfo(right_hand_side.dtype).eps

        def product(vectors: Tensor) -> Tensor:
            return torch.where(active, self.hessian_product(vectors.reshape(codes.shape)), 0).flatten(1)

        right = torch.where(active, right_hand_side, 0).flatten(1)
        flat = right.shape[1] * rounding * self.lipschitz_constant
        found = conjugate_gradients(product, right, tolerance=rounding, iterations=MAX_ITERATIONS, flat=flat)
        sizes, values = active.flatten(1).sum(1), math.prod(self.observations.shape[1:])
        failed = found.residuals > rounding**0.5
        if failed.any() or not torch.isfinite(found.residuals).all():
            raise UnsupportedProblem(
                f"conjugate gradients left {int(failed.sum())} of {len(codes)} active systems at a relative residual of "
                f"up to {float(found.residuals.max()):.1e} after {found.iterations} iterations (up to {int(sizes.max())} "
                f"active entries for {values} pixel values): use a greater depth, a larger penalty, an l2_penalty, or "
                f"backprop or fixed_point, which solve no system"
            )
        singular = ((sizes > values) & (self.l2_penalty == 0)) | (found.condition_numbers > 1 / rounding)
        return found.solution.reshape(codes.shape), {
            "condition_number": float(found.condition_numbers.max()),
            "singular": int(singular.sum()),
            "iterations": found.iterations,
            "largest_relative_residual": float(found.residuals.max()),
        }


def _is_slow(tensor: Tensor) -> bool:
    """Whether torch's own transposed convolution is slow for such tensors."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"
