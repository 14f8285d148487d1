"""Weights of training images, some of whose labels are wrong, by the loss on images with right
ones.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from pudle.data import ArraysDataset, FloatArray, ToTensor, check_options
from pudle.data.dataset import PATH
from pudle.data.images import handwritten_digits
from pudle.data.mean_loss import MeanLoss
from pudle.data.user_files import check_numbers, read_npz, user_file
from pudle.errors import InvalidArgument
from pudle.problems import Constants, StronglyConvex
from pudle.text import count

Labels = NDArray[np.int64]
#: What a file holds.
ARRAYS = ["images", "labels"]

#: Weight of the squared norm, as in the literature: the curvature is at least twice this.
RIDGE = 0.2


class Images(NamedTuple):
    """Images (n, m) with their labels (n,), and which of these were drawn anew."""

    images: FloatArray
    labels: Labels
    wrong: NDArray[np.bool_]


def _images_and_labels(names: list[str]) -> list[str]:
    """Return the names of the two arrays; InvalidArgument if a file lacks one."""
    if missing := [name for name in ARRAYS if name not in names]:
        raise InvalidArgument(
            f"holds {', '.join(names) or 'no array'}, and lacks {' and '.join(missing)}: save both,"
            " as numpy.savez(path, images=..., labels=...)"
        )
    return ARRAYS


def check_images(images: NDArray[Any]) -> None:
    """Raise InvalidArgument for what are no gray images, one along the first axis each: finite, not
    negative and not all zero.
    """
    if images.ndim < 2 or not images.size:
        raise InvalidArgument(
            f"array 'images' has shape {images.shape}: give a row or a table of pixels for each of"
            " one or more images"
        )
    if not np.isfinite(images).all():
        raise InvalidArgument("array 'images' has entries that are NaN or infinite: replace them")
    if images.min() < 0 or not images.max() > 0:
        raise InvalidArgument(
            f"array 'images' has entries from {images.min()} to {images.max()}, and gray values go"
            " from 0 (black) to a largest one: shift or scale them"
        )


def check_labels(labels: NDArray[Any], images: NDArray[Any]) -> None:
    """Raise InvalidArgument for what are no classes, numbered from 0, of some images: two or more,
    fewer than images.
    """
    if labels.shape != images.shape[:1]:
        raise InvalidArgument(
            f"array 'labels' has shape {labels.shape}, and there are"
            f" {count(len(images), 'image')}: give one number for each, which is its class"
        )
    if not (np.isfinite(labels) & (labels == np.round(labels))).all():
        raise InvalidArgument(
            "array 'labels' has entries that are no whole numbers: number classes"
        )
    least, greatest = labels.min(), labels.max()
    if least < 0 or greatest < 1 or greatest >= len(images):
        raise InvalidArgument(
            f"array 'labels' goes from {least} to {greatest} for {count(len(images), 'image')}:"
            " number two or more classes 0, 1, 2, ..."
        )
    check_numbers((images[0].size, int(greatest) + 1))


#: Largest third derivative of log-sum-exp along a unit vector u: the third central moment of the
#: entries of u, whose range R is at most sqrt(2), and which is at most R^3/(6 sqrt(3)).
THIRD_DERIVATIVE = 2 * 2**0.5 / (6 * 3**0.5)


class SoftmaxLoss(MeanLoss):
    """The cross entropy of the softmax s of scores."""

    slope = 2**0.5
    steepest = 0.5

    def curvatures(self, weights: Tensor, radius: float) -> Tensor:
        """Return a bound on the curvature of each row's loss in a ball around some weights, shape
        (n,): at most 1/2.
        """
        # The Hessian is diag(s) - s s^T: at most the largest entry of s, its trace, and 1/2. The
        # third derivative is at most sqrt(2) times that.
        softmax, reach = self.scores(weights).softmax(1), self.reach(radius)
        trace = 1 - softmax.square().sum(1) + reach
        return torch.minimum(softmax.amax(1) + reach / 2, trace).clamp(max=self.steepest)


@dataclass(frozen=True)
class HyperCleaning(ArraysDataset):
    r"""Data hyper-cleaning: softmax regression in which each training image has a learned weight.

    .. math:: g(W, \theta) = \frac1n \sum_i \sigma(\theta_i) \, \mathrm{CE}(W^\top a_i, y_i)
              + 0.2 \, \lVert W \rVert^2, \qquad
              f(W) = \frac1m \sum_j \mathrm{CE}(W^\top b_j, y_j)

    with sigma the logistic function and images a (training, a share of whose labels is drawn anew)
    and b (validation). The images are the 1,797 digits of 8 x 8 pixels that come with scikit-learn,
    or others from a file. Every theta has curvature of at least 0.4. The gradient is taken at
    theta = 0.

    Parameters
    ----------
    n_samples, n_validation : int
        Numbers of training and of validation images; the others are for tests.
    corruption : float
        Share of the training labels that are drawn anew, in [0, 1).
    path : str, optional
        An .npz file with arrays ``images``, a row for each, and ``labels``, whole numbers from 0,
        such as MNIST's; the images are divided by their largest entry.
    seed : int
        Seed of the split and of the labels.
    """

    n_samples: int = 1000
    n_validation: int = 400
    corruption: float = 0.5
    path: str | None = field(default=None, metadata=PATH)
    seed: int = 0

    name = "hyper_cleaning"
    references = (
        "Franceschi, Donini, Frasconi and Pontil, Forward and reverse gradient-based hyperparameter"
        " optimization, ICML 2017",
        "Shaban, Cheng, Hatch and Boots, Truncated back-propagation for bilevel optimization,"
        " AISTATS 2019",
    )
    losses = ("validation",)

    def __post_init__(self) -> None:
        check_options(self, may_be_zero=("corruption",), below_one=("corruption",))

    def draw(self) -> tuple[Images, Images, Images]:
        """Return the images for training, for validation, and those that are left, for tests.

        Split, wrong labels and their values are from one stream of the seed; only training labels
        are drawn anew. InvalidArgument says that there are too few images.
        """
        images, labels = self._arrays()
        random, used = self.generator(), self.n_samples + self.n_validation
        if used > len(images):
            raise InvalidArgument(
                f"n_samples={self.n_samples} and n_validation={self.n_validation} are more than the"
                f" {len(images)} images: give fewer"
            )
        order = random.permutation(len(images))
        noisy, wrong = labels.copy(), np.zeros(len(images), bool)
        count = round(self.corruption * self.n_samples)
        drawn = random.choice(order[: self.n_samples], count, replace=False)
        wrong[drawn], noisy[drawn] = True, random.integers(labels.max() + 1, size=count)
        training, validation, test = (
            Images(images[rows], noisy[rows], wrong[rows])
            for rows in np.split(order, [self.n_samples, used])
        )
        return training, validation, test

    def _arrays(self) -> tuple[FloatArray, Labels]:
        """Return the images as rows, divided by the largest entry, and their labels: of the file,
        or scikit-learn's digits without one.
        """
        if self.path is None:
            images, labels = handwritten_digits()
        else:
            with user_file(self.path) as file:
                images, labels = read_npz(file, _images_and_labels)
                check_images(images)
                check_labels(labels, images)
            images, labels = images.astype(float), labels.astype(np.int64)
        return images.reshape(len(images), -1) / images.max(), labels

    def make(self, loss: str, tensor: ToTensor) -> StronglyConvex:
        """Return the problem of a draw at theta = 0, from weights of zero; its one outer loss is
        ``validation``.
        """
        training, validation, _ = self.draw()
        classes = int(max(training.labels.max(), validation.labels.max())) + 1
        training_images, validation_images = tensor(training.images), tensor(validation.images)
        labels, validation_labels = (
            torch.as_tensor(split.labels).to(training_images.device)
            for split in (training, validation)
        )
        inside, outside = SoftmaxLoss(training_images), SoftmaxLoss(validation_images)

        def objective(weights: Tensor, theta: Tensor) -> Tensor:
            losses = cross_entropy(training_images.to(theta) @ weights, labels, reduction="none")
            return (theta.sigmoid() * losses).mean() + RIDGE * weights.square().sum()

        def validation_loss(weights: Tensor, theta: Tensor) -> Tensor:
            return cross_entropy(validation_images.to(theta) @ weights, validation_labels)

        def constants(weights: Tensor, theta: Tensor, v: Tensor, radius: float) -> Constants:
            """Return bounds on the derivatives in a ball around some weights, along `v` those of
            the Hessian and of the mixed derivative.
            """
            weight, size, count = (
                theta.double().sigmoid(),
                float(weights.norm()),
                len(training_images),
            )
            change = weight * torch.sigmoid(-theta.double())
            softmax, curvatures = (
                inside.scores(weights).softmax(1),
                inside.curvatures(weights, radius),
            )
            along = inside.lengths * inside.scores(v).norm(dim=1)
            third = (2**0.5 * curvatures).clamp(max=THIRD_DERIVATIVE)
            softmax[torch.arange(count), labels] -= 1
            moved = curvatures * inside.reach(radius)
            slopes = (softmax.norm(dim=1) + moved).clamp(max=inside.slope)
            shared, strongest = (inside.largest / count) ** 0.5, float(weight.max())

            def cross_size(rows: Tensor) -> float:
                separate: float = (rows * inside.lengths).norm().item() / count
                together: float = rows.max().item() * shared
                return min(separate, together)

            return Constants(
                gradient=2 * RIDGE + strongest * inside.largest / 2,
                hessian=float((weight * third * along).norm()) * shared,
                outer=outside.curvature(weights, radius),
                cross=float((change * curvatures * along).norm()) / count,
                cross_norm=cross_size(change * slopes),
                terms=2 * RIDGE * size + strongest * inside.terms(size),
                outer_terms=outside.terms(size),
                # Autograd subtracts the weight, and the label's share of the softmax, from one.
                cross_terms=cross_size(weight * inside.slope),
            )

        theta, initial = (
            np.zeros(len(training_images)),
            np.zeros((training_images.shape[1], classes)),
        )
        return StronglyConvex(
            tensor(theta),
            objective,
            validation_loss,
            tensor(initial),
            lambda _: 2 * RIDGE,
            constants,
        )
