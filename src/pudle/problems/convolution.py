"""Strided convolutions of code maps with filters: their geometry, their derivatives and a bound on
their norm.
"""

import functools
import math
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import conv2d, conv_transpose2d, fold, pad, pixel_unshuffle
from torch.nn.grad import conv2d_weight

#: Frequencies per polynomial degree at which `squared_norm_bound` samples: the bound is at most 17
#: % too large.
SAMPLES_PER_DEGREE = 8


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

    @classmethod
    def covering(cls, image: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> Self:
        """Return the geometry with the fewest code positions that reach every pixel, cropped evenly
        at both ends.
        """
        codes, padding, extra = [], [], []
        for pixels, taps in zip(image, kernel, strict=True):
            codes.append(math.ceil((pixels - taps) / stride) + 1)
            excess = (codes[-1] - 1) * stride + taps - pixels
            padding.append((excess + 1) // 2)
            extra.append(excess % 2)
        return cls(stride, tuple(image), tuple(kernel), tuple(codes), tuple(padding), tuple(extra))


def synthesize(geometry: Geometry, codes: Tensor, filters: Tensor) -> Tensor:
    """Return ``D * z`` per sample: codes (n, p, h, w) and filters (p, c, k, k) to images (n, c, H,
    W).
    """
    if _is_slow(codes):
        return _partial("images", geometry, codes, filters)
    return conv_transpose2d(codes, filters, None, geometry.stride, geometry.padding, geometry.extra)


def correlate(geometry: Geometry, images: Tensor, filters: Tensor) -> Tensor:
    """Return the correlation of images (n, c, H, W) with filters (p, c, k, k), the adjoint of
    `synthesize` in the codes.
    """
    if _is_slow(images):
        return _partial("codes", geometry, images, filters)
    return _codes(geometry, images, filters)


def squared_norm_bound(filters: Tensor, stride: int) -> float:
    """Return an upper bound on the largest eigenvalue of ``correlate(synthesize(.))``, whatever the
    size of the images.

    The convolution is part of one without borders, whose largest eigenvalue is the supremum over
    frequencies of the largest eigenvalue of the c s^2 x c s^2 matrix ``G G^H``, with G the
    transform of the filters' subsamplings at stride s. Each quadratic form of it is a trigonometric
    polynomial of degree d, one less than the code positions that a filter spans along an axis.
    Sampled at N > 2 d equidistant frequencies, such a polynomial exceeds its largest sample by at
    most a factor of ``1 / cos(pi d / N)`` along each axis.

    References
    ----------
    Ehlich and Zeller, "Schwankung von Polynomen zwischen Gitterpunkten", Mathematische Zeitschrift
    1964.
    """
    p, _, height, width = filters.shape
    down, across = -(-height // stride), -(-width // stride)
    blocks = pad(filters, (0, across * stride - width, 0, down * stride - height))
    phases = pixel_unshuffle(blocks, stride)
    grid = [SAMPLES_PER_DEGREE * max(taps - 1, 1) for taps in (down, across)]
    transform = torch.fft.rfft2(phases, s=grid).permute(2, 3, 1, 0)
    if p < phases.shape[1]:
        transform = transform.mH
    largest = float(torch.linalg.eigvalsh(transform @ transform.mH)[..., -1].max())
    for taps, samples in zip((down, across), grid, strict=True):
        largest /= math.cos(math.pi * (taps - 1) / samples)
    return largest


def _is_slow(tensor: Tensor) -> bool:
    """Return whether torch's own transposed convolution is slow for this tensor."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _images(geometry: Geometry, codes: Tensor, filters: Tensor) -> Tensor:
    patches = filters.flatten(1).T @ codes.flatten(2)
    return fold(
        patches, geometry.image, geometry.kernel, padding=geometry.padding, stride=geometry.stride
    )


def _codes(geometry: Geometry, images: Tensor, filters: Tensor) -> Tensor:
    return conv2d(images, filters, stride=geometry.stride, padding=geometry.padding)


def _filters(geometry: Geometry, images: Tensor, codes: Tensor) -> Tensor:
    shape = (codes.shape[1], images.shape[1], *geometry.kernel)
    return conv2d_weight(images, shape, codes, stride=geometry.stride, padding=geometry.padding)


_PARTIALS = {"images": _images, "codes": _codes, "filters": _filters}


def _partial(role: str, geometry: Geometry, left: Tensor, right: Tensor) -> Tensor:
    """Return a partial derivative as `BilinearPartial` does, whose bookkeeping is left out where no
    graph is recorded.
    """
    partial = BilinearPartial.apply if torch.is_grad_enabled() else _evaluate
    return partial(role, geometry, left, right)


def _evaluate(role: str, geometry: Geometry, left: Tensor, right: Tensor) -> Tensor:
    return _PARTIALS[role](geometry, left, right)


class BilinearPartial(Function):
    """Partial derivative, in the argument called `role`, of the form ``<images, filters * codes>``,
    linear in all three.

    The three partial derivatives are one another's derivatives, so this function is differentiable
    to any order, in forward and reverse mode. It exists because torch's float32 transposed
    convolution to few channels, which is also what differentiates a convolution in its images, is
    six times slower on the CPU than a product of matrices.
    """

    generate_vmap_rule = True

    forward = staticmethod(_evaluate)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[str, Geometry, Tensor, Tensor], output: Tensor
    ) -> None:
        ctx.role, ctx.geometry, *arguments = inputs
        ctx.save_for_backward(*arguments)
        ctx.save_for_forward(*arguments)

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        others = [role for role in _PARTIALS if role != ctx.role]
        values = dict(zip(others, ctx.saved_tensors, strict=True)) | {ctx.role: weights}

        def partial(wanted: str) -> Tensor:
            left, right = (values[role] for role in _PARTIALS if role != wanted)
            return _partial(wanted, ctx.geometry, left, right)

        needed = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *(partial(role) if need else None for role, need in zip(others, needed, strict=True)),
        )

    @staticmethod
    def jvp(ctx: Any, _role: None, _geometry: None, *tangents: Tensor | None) -> Tensor:
        (left, right), (change_left, change_right) = ctx.saved_tensors, tangents
        pairs = [(change_left, right), (left, change_right)]
        parts = [
            _partial(ctx.role, ctx.geometry, *pair)
            for pair in pairs
            if all(each is not None for each in pair)
        ]
        return functools.reduce(torch.add, parts)
