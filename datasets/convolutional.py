"""Images made of a few shifted copies of random filters."""

from dataclasses import dataclass

import torch

from pudle.data import ConvolutionalDataset, Draw, check_options
from pudle.data.atoms import normalize
from pudle.problems import ConvolutionalSparseCoding


@dataclass(frozen=True)
class Convolutional(ConvolutionalDataset):
    """Images ``x = D* * z* + noise``: the PUDLE model with shifted filters in place of atoms.

    Filters are Gaussian, of unit norm. Each code entry is non-zero with a given probability, then
    uniform in [1, 2], with a random sign unless `nonnegative`. The filters at which the gradient is
    taken are the generating ones plus ``perturbation`` times Gaussian entries, renormalized.

    Parameters
    ----------
    n_samples, size, channels : int
        Number of images, their side in pixels, at least that of the filters, and their channels.
    n_components, kernel : int
        Number of filters, and their side in pixels.
    stride : int
        Distance between neighboring code positions in pixels, at most the side of the filters.
    density : float
        Probability that a code entry is non-zero, in (0, 1].
    nonnegative : bool
        Whether codes are non-negative, in the model and in the problem.
    noise, perturbation : float
        Standard deviations of the Gaussian noise in every pixel and of the change of every filter
        entry.
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
        check_options(self, may_be_zero=("noise", "perturbation"), at_most=self.fitting)

    def draw(self) -> Draw:
        """Draw filters, noise, codes and the change of the filters from one stream of the seed, in
        this order.
        """
        random = self.generator()
        filters = random.standard_normal(
            (self.n_components, self.channels, self.kernel, self.kernel)
        )
        generating = normalize(filters, axis=(1, 2, 3))
        noise = self.noise * random.standard_normal(
            (self.n_samples, self.channels, self.size, self.size)
        )
        model = ConvolutionalSparseCoding(
            observations=torch.as_tensor(noise),
            dictionary=torch.as_tensor(generating),
            penalty=self.penalty,
            stride=self.stride,
        )
        present = random.random(model.code_shape) < self.density
        codes = present * random.uniform(1.0, 2.0, present.shape)
        if not self.nonnegative:
            codes = codes * random.choice([-1.0, 1.0], codes.shape)
        images = model.synthesize(torch.as_tensor(codes)).numpy() + noise
        perturbed = generating + self.perturbation * random.standard_normal(generating.shape)
        return Draw(images, normalize(perturbed, axis=(1, 2, 3)), generating, codes)
