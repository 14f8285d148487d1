"""Convolutional sparse coding of images, with one penalty or with one per filter, learned together
with the filters.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, fold, pad, pixel_unshuffle, unfold

from ..errors import InvalidArgument, UnsupportedProblem
from ..streams import generator
from ..validation import check_integer
from .l1 import DictionaryProblem
from .linearized import Array, Solution, conjugate_gradients

#: Relative accuracy of the Lipschitz constant. A step of 1/L is safe for any estimate above half of
#: L.
LIPSCHITZ_TOLERANCE = 1e-6
#: Largest dimension for which a dense matrix is formed: Lanczos iteration needs more room.
MAX_DENSE = 64
#: Most conjugate gradient iterations for one active system.
MAX_ITERATIONS = 5000


class Geometry(NamedTuple):
    """Where the filters of a strided convolution meet an image. Pairs hold the height, then the
    width.
    """

    #: Distance of neighboring code positions in pixels.
    stride: int
    #: Sizes of the image and of the filters in pixels, and the number of code positions.
    image: tuple[int, ...]
    kernel: tuple[int, ...]
    codes: tuple[int, ...]
    #: Pixels cropped at the start, and how many fewer are cropped at the end.
    padding: tuple[int, ...]
    extra: tuple[int, ...]


def synthesize(geometry: Geometry, codes: Tensor, filters: Tensor) -> Tensor:
    """Return ``D * z`` per sample: codes (n, p, h, w) and filters (p, c, k, k) to images (n, c, H,
    W).

    Differentiable. In float32 on a CPU it goes by a product of matrices and a fold, because torch's
    own transposed convolution is slow there.
    """
    stride, image, kernel, _, padding, extra = geometry
    if _is_slow(codes):
        patches = filters.flatten(1).T @ codes.flatten(2)
        return fold(patches, image, kernel, padding=padding, stride=stride)
    return conv_transpose2d(codes, filters, None, stride, padding, extra)


def correlate(geometry: Geometry, images: Tensor, filters: Tensor) -> Tensor:
    """Return the correlation of images (n, c, H, W) with filters (p, c, k, k), shape (n, p, h, w):
    the adjoint of `synthesize` in the codes. Differentiable.
    """
    stride, _, kernel, codes, padding, _ = geometry
    if _is_slow(images) and torch.is_grad_enabled():
        # What differentiates a convolution in its images is a transposed convolution.
        patches = unfold(images, kernel, padding=padding, stride=stride)
        return (filters.flatten(1) @ patches).reshape(len(images), len(filters), *codes)
    return conv2d(images, filters, stride=stride, padding=padding)


def _is_slow(tensor: Tensor) -> bool:
    """Tell whether torch's own transposed convolution to few channels is slow for this tensor, six
    times slower than a product of matrices: in float32 on a CPU.
    """
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ConvolutionalSparseCoding(DictionaryProblem):
    """Sparse coding of images by shifted copies of small filters; the filters are the outer
    parameter.

    The inner problem, per image x, is ``z(D) = argmin_z 1/2 |x - D * z|^2 + penalty |z|_1`` (over z
    >= 0 if `nonnegative`; a positive `l2_penalty` adds ``l2_penalty/2 |z|^2``). ``D * z`` is the
    transposed convolution of the code maps with the filters at the given stride: it puts the filter
    D_j, scaled by ``z[j, a, b]``, at pixel ``(a stride, b stride)``. An axis of H pixels with
    filters of k has ``h = ceil((H - k) / stride) + 1`` positions, the fewest that reach every
    pixel; what exceeds the image is cropped, half at each end. Images must be at least as large as
    the filters. The outer loss is a mean over images: ``lasso`` is the inner objective itself,
    ``reconstruction`` is ``1/2 |x - D * z|^2``. With `targets` y, such as the clean images of which
    x are noisy observations, y takes the place of x in the outer loss. The codes then do not
    minimize the lasso loss, so an estimator that holds them constant, or truncates their
    derivative, keeps an error on either loss.

    No matrix is formed. For large images `lipschitz_constant` takes longer than ten layers, so an
    algorithm with a given step avoids it. `solve_active` uses conjugate gradients.

    Parameters
    ----------
    observations : Tensor, shape (n, c, H, W)
        Images with c channels.
    dictionary : Tensor, shape (p, c, k, k)
        Filters, not necessarily square. The gradient has this shape.
    penalty, loss, nonnegative, l2_penalty
        As in `SparseCoding`.
    stride : int
        Distance of neighboring code positions in pixels, at most the filters' size.
    targets : Tensor, shape (n, c, H, W), optional
        Images that the outer loss compares with; the observations by default.
    generating_dictionary : Tensor, shape (p, c, k, k), optional
        The filters that generated the images; the targets gstar and gtilde need them.
    generating_codes : Tensor, shape (n, p, h, w), optional
        The codes that generated the images; the target gtilde needs them.

    Raises
    ------
    InvalidArgument
        If a tensor is not a finite floating tensor of a fitting shape, the images are smaller than
        the filters, the stride leaves gaps, penalty <= 0 or l2_penalty < 0.

    References
    ----------
    Zeiler, Krishnan, Taylor and Fergus, "Deconvolutional networks", CVPR 2010. Simon and Elad,
    "Rethinking the CSC model for natural images", NeurIPS 2019. Tolooshams and Ba, "Stable and
    Interpretable Unrolled Dictionary Learning", TMLR 2022 (64 filters of 9 x 9, stride 4,
    non-negative codes).
    """

    stride: int = 1
    targets: Tensor | None = None

    axes = {
        "observations": "(n, c, H, W)",
        "dictionary": "(p, c, k, l)",
        "targets": "(n, c, H, W)",
        "generating_dictionary": "(p, c, k, l)",
        "generating_codes": "(n, p, h, w)",
    }

    def _check_sizes(self) -> None:
        """Refuse, by InvalidArgument, images smaller than the filters, a stride larger than these,
        and generating codes of a wrong shape.
        """
        image, kernel = self.observations.shape[2:], self.dictionary.shape[2:]
        if image[0] < kernel[0] or image[1] < kernel[1]:
            raise InvalidArgument(
                f"observations are {image[0]} x {image[1]} pixels, smaller than the {kernel[0]} x"
                f" {kernel[1]} filters: give larger images or smaller filters"
            )
        if check_integer("stride", self.stride, 1) > min(kernel):
            raise InvalidArgument(
                f"stride={self.stride} leaves pixels that no filter reaches: give at most"
                f" {min(kernel)}, the filters' size"
            )
        if self.generating_codes is not None:
            self.check_codes("generating_codes", self.generating_codes)

    @functools.cached_property
    def geometry(self) -> Geometry:
        """Where the filters meet the images: at the fewest code positions that reach every pixel,
        cropped evenly at both ends.
        """
        image, kernel = self.observations.shape[2:], self.dictionary.shape[2:]
        codes, padding, extra = [], [], []
        for pixels, taps in zip(image, kernel, strict=True):
            codes.append(math.ceil((pixels - taps) / self.stride) + 1)
            excess = (codes[-1] - 1) * self.stride + taps - pixels
            padding.append((excess + 1) // 2)
            extra.append(excess % 2)
        return Geometry(self.stride, image, kernel, tuple(codes), tuple(padding), tuple(extra))

    @property
    def code_shape(self) -> tuple[int, ...]:
        return len(self.observations), len(self.dictionary), *self.geometry.codes

    @functools.cached_property
    def lipschitz_constant(self) -> float:
        """Largest eigenvalue of the smooth part's Hessian, by Lanczos iteration from a fixed start,
        or by a dense matrix where it is small; computed once, in float64 on the CPU.

        The relative accuracy is about 1e-6. The estimate is a Ritz value, which never exceeds the
        true L.
        """
        from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import

        filters = self.dictionary.detach().to("cpu", torch.float64)
        # D^T D and D D^T have the same largest eigenvalue: take the smaller of the two.
        shape, maps = self.code_shape[1:], [synthesize, correlate]
        if math.prod(self.observations.shape[1:]) < math.prod(shape):
            shape, maps = self.observations.shape[1:], maps[::-1]
        size = math.prod(shape)

        def square(vectors: Tensor) -> Tensor:
            """Return ``D^T D v``, or ``D D^T v`` of images, for flat vectors, one in each row."""
            values = vectors.reshape(-1, *shape)
            for apply in maps:
                values = apply(self.geometry, values, filters)
            return values.flatten(1)

        if size <= MAX_DENSE:
            values: Tensor = torch.linalg.eigvalsh(square(torch.eye(size, dtype=torch.float64)))
            return float(values[-1]) + self.l2_penalty

        def matvec(vector: Array) -> list[float]:
            image: list[list[float]] = square(torch.as_tensor(vector)).tolist()
            return image[0]

        operator = LinearOperator((size, size), matvec=matvec, dtype=float)
        # Random, because filters of zero mean nearly cancel a constant image.
        start = generator(0, "curvature of a convolution").standard_normal(size)
        largest: Array = eigsh(
            operator, 1, which="LA", v0=start, tol=LIPSCHITZ_TOLERANCE, return_eigenvectors=False
        )
        return float(largest[0]) + self.l2_penalty

    @functools.cached_property
    def lipschitz_bound(self) -> float:
        """Upper bound on `lipschitz_constant`, at most 17 % above it for large images; takes
        milliseconds, and is computed once. See `_squared_spectrum`.
        """
        squares, excess = self._squared_spectrum(frequencies_per_degree=8)
        values: Tensor = torch.linalg.eigvalsh(squares)
        return float(values[..., -1].max()) * excess + self.l2_penalty

    def is_lipschitz(self, constant: float) -> bool:
        """Tell whether `constant` is known to be at least L: it is at least an upper bound on L
        that lies at most 17 % above it for large images, or else one at most 1 % above it.

        `lipschitz_constant` itself takes ten seconds for a photograph, whose largest eigenvalues
        lie close together.
        """
        if constant <= self.l2_penalty:
            return False
        for frequencies_per_degree in (8, 32):
            squares, excess = self._squared_spectrum(frequencies_per_degree)
            identity = torch.eye(squares.shape[-1], dtype=squares.dtype)
            # What has a Cholesky factor has positive eigenvalues alone: ten times cheaper than
            # the eigenvalues.
            limit = (constant - self.l2_penalty) / excess
            _, failed = torch.linalg.cholesky_ex(limit * identity - squares)
            if not failed.any():
                return True
        return False

    def _squared_spectrum(self, frequencies_per_degree: int) -> tuple[Tensor, float]:
        """Return the matrices ``G G^H`` of the convolution at sampled frequencies, and the factor
        by which the largest eigenvalue between the samples may exceed the largest at a sample.

        The convolution is part of one without borders, whose largest eigenvalue is the supremum
        over frequencies of the largest eigenvalue of the c s^2 x c s^2 matrix ``G G^H``, with G the
        transform of the filters' subsamplings at stride s. Each quadratic form of it is a
        trigonometric polynomial of degree d, one less than the code positions that a filter spans
        along an axis. Sampled at N > 2 d equidistant frequencies, such a polynomial exceeds its
        largest sample by at most a factor of ``1 / cos(pi d / N)`` along each axis.

        References
        ----------
        Ehlich and Zeller, "Schwankung von Polynomen zwischen Gitterpunkten", Mathematische
        Zeitschrift 1964.
        """
        filters = self.dictionary.detach().to("cpu", torch.float64)
        stride, (p, _, height, width) = self.stride, filters.shape
        down, across = -(-height // stride), -(-width // stride)
        blocks = pad(filters, (0, across * stride - width, 0, down * stride - height))
        phases = pixel_unshuffle(blocks, stride)
        grid = [frequencies_per_degree * max(taps - 1, 1) for taps in (down, across)]
        excess = 1.0
        for taps, samples in zip((down, across), grid, strict=True):
            excess /= math.cos(math.pi * (taps - 1) / samples)
        spectrum: Tensor = torch.fft.rfft2(phases, s=grid)
        transform = spectrum.permute(2, 3, 1, 0)
        if p < phases.shape[1]:
            transform = transform.mH
        return transform @ transform.mH, excess

    def synthesize(self, codes: Tensor) -> Tensor:
        """Return ``D * z`` per sample: codes (n, p, h, w) to images (n, c, H, W)."""
        return synthesize(self.geometry, codes, self.dictionary)

    def residual(self, codes: Tensor) -> Tensor:
        """Return ``D * z - x`` per sample, shape (n, c, H, W)."""
        return self.synthesize(codes) - self.observations

    def adjoint(self, residual: Tensor) -> Tensor:
        """Return the correlation of images (n, c, H, W) with the filters, shape (n, p, h, w)."""
        return correlate(self.geometry, residual, self.dictionary)

    @torch.no_grad()
    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        """Solve the active systems by conjugate gradients; see `Problem.solve_active`.

        ``condition_number`` is an estimate from the iteration and never too large. ``singular``
        counts the systems that have more unknowns than the image has values, or whose estimated
        condition number exceeds working precision. If such a system has a solution, the result is
        the one of minimum norm.

        Raises
        ------
        UnsupportedProblem
            If a residual stays above the square root of the rounding unit, relative to its
            right-hand side: the system is singular without a solution, or too ill-conditioned.
        """
        active, rounding = self.active(codes), torch.finfo(right_hand_side.dtype).eps

        def product(vectors: Tensor) -> Tensor:
            return self.adjoint(self.synthesize(vectors)) + self.l2_penalty * vectors

        result = conjugate_gradients(
            product,
            right_hand_side,
            active,
            tolerance=rounding,
            iterations=MAX_ITERATIONS,
            flat=codes[0].numel() * rounding * self.lipschitz_bound,
        )
        sizes, values = active.flatten(1).sum(1), math.prod(self.observations.shape[1:])
        failed, largest = ~(result.residuals <= rounding**0.5), float(result.residuals.max())
        if failed.any():
            raise UnsupportedProblem(
                f"conjugate gradients left {int(failed.sum())} of {len(codes)} active systems at a"
                f" relative residual of up to {largest:.1e} after {result.iterations} iterations"
                f" (up to {int(sizes.max())} active entries for {values} pixel values): use a"
                " greater depth, a larger penalty, an l2_penalty, or backprop or fixed_point, which"
                " solve no system"
            )
        conditions = result.condition_numbers
        singular = ((sizes > values) & (self.l2_penalty == 0)) | (conditions > 1 / rounding)
        return result.solution, {
            "condition_number": float(conditions.max()),
            "singular": int(singular.sum()),
            "iterations": result.iterations,
            "largest_relative_residual": largest,
        }


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ThresholdedConvolutionalSparseCoding(ConvolutionalSparseCoding):
    """Convolutional sparse coding whose outer parameter holds the filters and the logarithms of
    their penalties.

    The inner problem is ``z(theta) = argmin_z 1/2 |x - D * z|^2 + sum_j penalty_j |z_j|_1``, with
    z_j the code maps of filter D_j. Row j of theta, shape (p, c k k + 1), is the flattened filter
    D_j followed by ``log penalty_j``: one gradient covers both. A layer's threshold is the step
    times the penalty.

    All other parameters are those of `ConvolutionalSparseCoding`.

    To learn penalties, use clean or held-out `targets` and the reconstruction loss. This loss
    depends on the penalties through the codes alone, so an estimator that holds the codes constant
    never moves them. The lasso loss contains the penalties and is smallest where they vanish.

    Parameters
    ----------
    penalty : float or Tensor, shape () or (p,) or (p, 1, 1)
        Weights of the l1 norm, > 0: one for all filters or one for each. Stored as (p, 1, 1), to
        broadcast over the codes.

    Raises
    ------
    InvalidArgument
        As in `ConvolutionalSparseCoding`, and if `penalty` does not hold one or p positive finite
        numbers.

    References
    ----------
    Gregor and LeCun, "Learning fast approximations of sparse coding", ICML 2010 (learned
    thresholds). Simon and Elad, "Rethinking the CSC model for natural images", NeurIPS 2019 (one
    per filter, denoising).
    """

    parameter = "theta"

    def _check_penalty(self) -> Tensor:
        return self._penalty_of_each("filter", len(self.dictionary)).reshape(-1, 1, 1)

    @property
    def theta(self) -> Tensor:  # type: ignore[override]  # made of two fields
        """The filters and the logarithms of their penalties, shape (p, c k k + 1)."""
        assert isinstance(self.penalty, Tensor)
        return torch.cat([self.dictionary.flatten(1), self.penalty.log().flatten(1)], 1)

    def fields_at(self, theta: Tensor) -> dict[str, Any]:
        return {"dictionary": self.dictionary_of(theta), "penalty": theta[:, -1, None, None].exp()}

    def dictionary_of(self, theta: Tensor) -> Tensor:
        return theta[:, :-1].reshape(self.dictionary.shape)
