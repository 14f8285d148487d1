"""Choice of the regularization of a logistic regression by its loss on held-out data."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from pudle.data import ArraysDataset, FloatArray, ToTensor
from pudle.data.dataset import PATH
from pudle.data.mean_loss import MeanLoss
from pudle.data.user_files import read_svmlight, user_file
from pudle.errors import InvalidArgument
from pudle.problems import Constants, StronglyConvex
from pudle.text import count
from pudle.validation import CheckedOptions

#: Rows of a file, for two halves that vary, and labels that an error names.
FEWEST_ROWS, MOST_SHOWN = 4, 5
#: Largest third derivative of the logistic loss.
THIRD_DERIVATIVE = 1 / (6 * 3**0.5)


class LogisticLoss(MeanLoss):
    """The logistic loss of rows times their labels."""

    slope = 1.0
    steepest = 0.25

    def curvatures(self, weights: Tensor, radius: float) -> Tensor:
        """Return a bound on the curvature of each row's loss in a ball around some weights, shape
        (n,): at most 1/4.
        """
        # They fall with the margin, and are no less than the third derivatives.
        margins = self.scores(weights).abs() - self.reach(radius)
        margins = margins.clamp(min=0)
        values: Tensor = margins.sigmoid() * (-margins).sigmoid()
        return values


@dataclass(frozen=True)
class LogisticRegression(CheckedOptions, ArraysDataset):
    r"""The standard task of bilevel optimization: `pudle.StronglyConvex` of a logistic regression.

    On breast_cancer, which comes with scikit-learn (569 tumors with 30 features), or on a file;
    features are standardized on the training half, labels are :math:`y = \pm 1`, and there is no
    intercept. The outer parameter is the logarithm of the regularization, one number or one for
    each feature,

    .. math:: w(\theta) = \arg\min_w \frac{1}{n} \sum_i \log(1 + e^{-y_i x_i^\top w})
        + \frac12 \sum_j e^{\theta_j} w_j^2 ,

    and the outer loss is the mean logistic loss on the other half. The curvature is at least
    :math:`\mu = \min_j e^{\theta_j}` and at most
    :math:`L = \lambda_{\max}(X^\top X) / 4n + \max_j e^{\theta_j}`. With steps of size 1/L states
    and implicit gradients converge as :math:`\rho^T` for :math:`\rho = 1 - \mu / L`, unrolled ones
    as :math:`T \rho^T`; one through K layers keeps an error of order
    :math:`\rho^K`. The direct part is zero. With H the Hessian at the solution and g the gradient
    of the outer loss in w,

    .. math:: \partial_{\theta_j} \ell = -e^{\theta_j} w_j (H^{-1} g)_j ,

    summed over j if all features share one number.

    Parameters
    ----------
    penalty : float
        The value of :math:`e^\theta` at which the gradient is taken, > 0.
    per_feature : bool
        Whether each feature has a regularization of its own (all equal at first): theta then has as
        many entries as there are features, not one.
    path : str, optional
        A file of the svmlight format with two classes, such as ijcnn1's.
    seed : int
        Seed of the split.
    """

    penalty: float = 0.1
    per_feature: bool = False
    path: str | None = field(default=None, metadata=PATH)
    seed: int = 0

    name = "logistic"
    references = (
        "Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016",
        (
            "Grazzi, Franceschi, Pontil and Salzo, On the iteration complexity of hypergradient"
            " computation, ICML 2020"
        ),
    )
    losses = ("held_out",)

    def draw(self) -> tuple[FloatArray, FloatArray]:
        """Return the training and the held-out rows, each times its label: the loss depends on x
        and y through their product alone.

        The split is from the stream of the seed; features are standardized by the training rows.
        Features too large for that are InvalidArgument.
        """
        features, labels = self._arrays()
        order = self.generator().permutation(len(features))
        training_rows, held_out_rows = np.split(order, [len(order) // 2])
        # A feature that is the same in all training rows stays as it is.
        with np.errstate(over="ignore", invalid="ignore"):
            scale = features[training_rows].std(0)
            features = (features - features[training_rows].mean(0)) / np.where(scale > 0, scale, 1)
        if not np.isfinite(features).all():
            raise InvalidArgument(
                f"path={self.path!r} has features that are too large to be standardized: scale them"
            )
        signed = (2.0 * (labels == labels.max()) - 1)[:, None] * features
        return signed[training_rows], signed[held_out_rows]

    def _arrays(self) -> tuple[FloatArray, NDArray[np.float64]]:
        """Return features and labels, of the file, or scikit-learn's breast_cancer without one.

        A file without two classes, with too few rows or without a feature that varies is
        InvalidArgument.
        """
        if self.path is None:
            from sklearn.datasets import load_breast_cancer  # slow to import

            tumors: tuple[FloatArray, FloatArray] = load_breast_cancer(return_X_y=True)
            return tumors
        with user_file(self.path) as file:
            features, labels = read_svmlight(file)
            classes = np.unique(labels)
            if len(classes) != 2:
                label_list = ", ".join(f"{label:g}" for label in classes[:MOST_SHOWN])
                raise InvalidArgument(
                    f"has {count(len(classes), 'class', 'classes')} (labels {label_list}): give a"
                    " file with two, as a logistic regression needs"
                )
            if len(labels) < FEWEST_ROWS:
                raise InvalidArgument(
                    f"has {count(len(labels), 'row')}: give {FEWEST_ROWS} or more, of which half"
                    " are for training"
                )
            if (features == features[0]).all():
                raise InvalidArgument("has no feature that varies: give rows that differ")
        return features, labels

    def make(self, loss: str, tensor: ToTensor) -> StronglyConvex:
        """Return the problem of a draw, from weights of zero; its one outer loss is
        ``held_out``.
        """
        training, held_out = map(tensor, self.draw())

        def objective(weights: Tensor, theta: Tensor) -> Tensor:
            penalty = (theta.exp() * weights.square()).sum() / 2
            return softplus(-(training.to(theta) @ weights)).mean() + penalty

        def held_out_loss(weights: Tensor, theta: Tensor) -> Tensor:
            return softplus(-(held_out.to(theta) @ weights)).mean()

        inside, outside = LogisticLoss(training), LogisticLoss(held_out)

        def constants(weights: Tensor, theta: Tensor, v: Tensor, radius: float) -> Constants:
            """Return bounds on the derivatives in a ball around some weights, along `v` those of
            the Hessian and of the mixed derivative.
            """
            penalties, size = theta.exp(), float(weights.norm())
            strongest, reached = float(penalties.max()), penalties * (weights.abs() + radius)
            third = inside.curvatures(weights, radius).clamp(max=THIRD_DERIVATIVE)
            change = (third * inside.lengths * inside.scores(v)).norm()
            per_feature = theta.numel() > 1
            return Constants(
                gradient=inside.largest / 4 + strongest,
                hessian=float(change) * (inside.largest / len(training)) ** 0.5,
                outer=outside.curvature(weights, radius),
                cross=float((penalties * v).abs().max() if per_feature else strongest * v.norm()),
                cross_norm=float(reached.max() if per_feature else strongest * (size + radius)),
                terms=strongest * size + inside.terms(size),
                outer_terms=outside.terms(size),
            )

        count = training.shape[1]
        theta = np.log(np.full(count if self.per_feature else (), self.penalty))
        return StronglyConvex(
            tensor(theta),
            objective,
            held_out_loss,
            tensor(np.zeros(count)),
            lambda theta: theta.exp().min(),
            constants,
        )
