"""Images made of a few shifted copies of random filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pudle.data.dataset import ConvolutionalDataset, Draw
from pudle.errors import InvalidArgument
from pudle.problems.convolutional import ConvolutionalSparseCoding
from pudle.validation import check_integer, check_positive


@dataclass(frozen=True)
class Convolutional(ConvolutionalDataset):
    """Images ``x = D* * z* + noise``: the PUDLE model with shifted filters in place of atoms.

    Filters are Gaussian, of unit norm. Each code entry is non-zero with a given probability, then uniform in [1, 2], with
    a random sign unless `nonnegative`. The filters at which the gradient is taken are the generating ones plus
    ``perturbation`` times Gaussian entries, renormalized.

    Parameters
    ----------
    n_samples : int
        Number of images.
    size : int
        Side of the square images in pixels, at least the filters'.
    channels : int
    n_components : int
        Number of filters.
    kernel : int
        Side of the filters in pixels.
    stride : int
        Distance of neighboring code positions in pixels, at most the filters' side.
    density : float
        Probability that a code entry is non-zero, in (0, 1].
    nonnegative : bool
        Whether codes are non-negative, in the model and in the problem.
    noise : float
        Standard deviation of Gaussian noise added to every pixel.
    perturbation : float
        Standard deviation of what is added to every entry of the filters.
    penalty : float
        Weight of the l1 norm.
    seed : int
    """

    n_samples: int = 10
    size: int = 24
    channels: int = 1
    n_components: int = 8
    kernel: int = 7
    stride: int = 2
    density: float = 0.02
    nonnegative: bool = False
    noise: float = 0.01
    perturbation: float = 0.02
    penalty: float = 0.2
    seed: int = 0

    name = "convolutional"
    references = (
        "Zeiler, Krishnan, Taylor and Fergus, Deconvolutional networks, CVPR 2010",
        "Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",
    )

    def __post_init__(self) -> None:
        for name in ("n_samples", "size", "channels", "n_components", "kernel", "stride"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        if self.kernel > self.size:
            raise InvalidArgument(f"kernel={self.kernel} is above size={self.size}: filters must fit into the images")
        if self.stride > self.kernel:
            raise InvalidArgument(f"stride={self.stride} is above kernel={self.kernel}: it would leave pixels uncovered")
        if check_positive("density", self.density) > 1:
            raise InvalidArgument(f"density={self.density} is above 1: it is a probability, give a number in (0, 1]")
        check_positive("noise", self.noise, allow_zero=True)
        check_positive("perturbation", self.perturbation, allow_zero=True)
        check_positive("penalty", self.penalty)

    def draw(self) -> Draw:
        random = self.generator()
        generating = _normalize(random.standard_normal((self.n_components, self.channels, self.kernel, self.kernel)))
        noise = self.noise * random.standard_normal((self.n_samples, self.channels, self.size, self.size))
        model = ConvolutionalSparseCoding(
            observations=noise, dictionary=generating, penalty=self.penalty, stride=self.stride
        )
        present = random.random(model.code_shape) < self.density
        codes = present * random.uniform(1.0, 2.0, present.shape)
        if not self.nonnegative:
            codes = codes * random.choice([-1.0, 1.0], codes.shape)
        images = model.synthesize(torch.as_tensor(codes)).numpy() + noise
        filters = _normalize(generating + self.perturbation * random.standard_normal(generating.shape))
        return Draw(images, filters, generating, codes)


def _normalize(filters: np.ndarray) -> np.ndarray:
    return filters / np.sqrt(np.square(filters).sum(axis=(1, 2, 3), keepdims=True))
