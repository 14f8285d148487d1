"""Strided convolutions of code maps with filters: their geometry and a bound on their norm."""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, fold, pad, pixel_unshuffle, unfold

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
    stride, image, kernel, _, padding, extra = geometry
    if _is_slow(codes):
        patches = filters.flatten(1).T @ codes.flatten(2)
        return fold(patches, image, kernel, padding=padding, stride=stride)
    return conv_transpose2d(codes, filters, None, stride, padding, extra)


def correlate(geometry: Geometry, images: Tensor, filters: Tensor) -> Tensor:
    """Return the correlation of images (n, c, H, W) with filters (p, c, k, k), the adjoint of
    `synthesize` in the codes.
    """
    stride, _, kernel, codes, padding, _ = geometry
    if _is_slow(images) and torch.is_grad_enabled():
        # What differentiates a convolution in its images is a transposed convolution.
        patches = unfold(images, kernel, padding=padding, stride=stride)
        return (filters.flatten(1) @ patches).unflatten(2, codes)
    return conv2d(images, filters, stride=stride, padding=padding)


def _is_slow(tensor: Tensor) -> bool:
    """Return whether torch's own transposed convolution to few channels is slow for this tensor:
    six times slower than a product of matrices.
    """
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


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
