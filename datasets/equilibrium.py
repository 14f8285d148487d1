"""A small deep-equilibrium layer on handwritten digits."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pudle.data import ArraysDataset, FloatArray, ToTensor, check_options
from pudle.data.images import handwritten_digits
from pudle.problems import FixedPoint

#: Images and classes of scikit-learn's digits, and the pixels of an image after averaging over
#: blocks of 2 x 2.
IMAGES, CLASSES, PIXELS = 1797, 10, 16


@dataclass(frozen=True)
class Equilibrium(ArraysDataset):
    r"""`pudle.FixedPoint` of a layer that is applied until its output no longer changes, followed
    by a classifier.

    .. math:: z_{t+1} = \tanh(W z_t + U x + b), \qquad \ell = \text{cross entropy}(V z, y)

    for images x of scikit-learn's digits, averaged over blocks of 2 x 2 pixels. The outer parameter
    is the vector of all entries of W, U, b and V; W is `contraction` times a random orthogonal
    matrix, the others are Gaussian. The Jacobian
    :math:`\operatorname{diag}(1 - z^2) W` is not symmetric. Its spectral radius :math:`\rho`,
    largest over the images, is below `contraction`; states and implicit gradients converge as
    :math:`\rho^T`, unrolled ones as :math:`T \rho^T`, and a gradient through K layers keeps an
    error of order :math:`\rho^K`.

    Parameters
    ----------
    n_samples : int
        Number of images, at most 1797.
    n_components : int
        Width of the layer.
    contraction : float
        Norm of W, in (0, 1).
    seed : int
        Seed of the choice of images and of the weights.
    """

    n_samples: int = 20
    n_components: int = 8
    contraction: float = 0.95
    seed: int = 0

    name = "equilibrium"
    references = ("Bai, Kolter and Koltun, Deep Equilibrium Models, NeurIPS 2019",)
    losses = ("cross_entropy",)

    def __post_init__(self) -> None:
        check_options(self, below_one=("contraction",), at_most={"n_samples": IMAGES})

    def make(self, loss: str, tensor: ToTensor) -> FixedPoint:
        """Draw images and weights from one stream of the seed, and return the problem, from states
        of zero; its one outer loss is the mean ``cross_entropy`` over images.
        """
        (digits, targets), random, width = handwritten_digits(), self.generator(), self.n_components
        chosen = random.permutation(IMAGES)[: self.n_samples]
        blocks: FloatArray = digits[chosen].reshape(-1, 4, 2, 4, 2).mean((2, 4))
        images, labels = tensor(blocks.reshape(-1, PIXELS)), torch.as_tensor(targets[chosen])
        # The recurrent, the inward, the bias and the outward weights.
        weights = (
            self.contraction * np.linalg.qr(random.standard_normal((width, width)))[0],
            random.standard_normal((width, PIXELS)) / PIXELS**0.5,
            0.1 * random.standard_normal(width),
            random.standard_normal((CLASSES, width)) / width**0.5,
        )

        def cut(theta: Tensor) -> list[Tensor]:
            pieces = torch.split(theta, [weight.size for weight in weights])
            return [
                piece.reshape(weight.shape) for piece, weight in zip(pieces, weights, strict=True)
            ]

        def step(codes: Tensor, theta: Tensor) -> Tensor:
            recurrent, inward, bias, _ = cut(theta)
            return torch.tanh(codes @ recurrent.T + images.to(theta) @ inward.T + bias)

        def classification(codes: Tensor, theta: Tensor) -> Tensor:
            return cross_entropy(codes @ cut(theta)[3].T, labels.to(theta.device))

        theta = tensor(np.concatenate([weight.ravel() for weight in weights]))
        return FixedPoint(theta, step, classification, tensor(np.zeros((self.n_samples, width))))
