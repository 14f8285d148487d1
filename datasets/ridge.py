"""Ridge regression with a given condition number: the curse of unrolling, with a closed form at
every depth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from pudle.data import ArraysDataset, FloatArray, ToTensor, check_options
from pudle.errors import InvalidArgument
from pudle.problems import Ridge

OBSERVATIONS: dict[str, Callable[[Generator, int, FloatArray], FloatArray]] = {
    # The observations lie along the direction of largest curvature, so that only the error in it
    # counts.
    "top": lambda random, n, left_vectors: random.uniform(1.0, 2.0, (n, 1)) * left_vectors[:, 0],
    "random": lambda random, n, left_vectors: random.standard_normal((n, len(left_vectors))),
}


@dataclass(frozen=True)
class RidgeRegression(ArraysDataset):
    """`pudle.Ridge` whose Hessian has the eigenvalues ``L = 1`` down to ``mu = 1/kappa``, spaced
    geometrically.

    The dictionary is square, with random singular vectors, and singular along its last direction,
    where the curvature mu comes only from the strength, to which theta is added. With the
    observations along the top left singular vector and gradient steps of size eta from zero, the
    relative error of ``dz_t/dtheta`` is ``|1 - eta L|^(t-1) |1 + (t-1) eta L|``. At the step ``2/(L
    + mu) = 2 kappa/(kappa + 1)``, the best one for the codes, it rises far above one before it
    falls; at ``1/L`` it is zero from the second layer on. With random observations the slow
    directions dominate, and the error falls from the start.

    Parameters
    ----------
    n_samples, n_components : int
        Number of samples, and number of atoms, >= 2, which is the dimension of an observation as
        well.
    kappa : float
        Condition number L/mu of the Hessian, > 1.
    observations : {"top", "random"}
        Observations along the top left singular vector, with random amplitudes, or standard normal
        ones.
    seed : int
    """

    n_samples: int = 20
    n_components: int = 20
    kappa: float = 100.0
    observations: Literal["top", "random"] = "top"
    seed: int = 0

    name = "ridge"
    references = ("Scieur, Bertrand, Gidel and Pedregosa, The Curse of Unrolling, NeurIPS 2022",)
    losses = ("linear",)

    def __post_init__(self) -> None:
        check_options(self, least={"n_components": 2})
        if self.kappa <= 1:
            raise InvalidArgument(
                f"kappa={self.kappa} leaves all eigenvalues equal or is no condition number: give a"
                " number > 1"
            )

    def make(self, loss: str, tensor: ToTensor) -> Ridge:
        """Draw singular vectors, observations and weights from one stream of the seed, and return
        the problem; its one outer loss, ``linear``, is the mean of ``c^T z`` with standard normal
        c.
        """
        random = self.generator()
        left_vectors, right_vectors = np.linalg.qr(
            random.standard_normal((2, self.n_components, self.n_components))
        )[0]
        curvatures = np.geomspace(1.0, 1 / self.kappa, self.n_components)
        # Rounding must not leave a negative number under the last root.
        singular = np.sqrt(np.maximum(curvatures - 1 / self.kappa, 0))
        return Ridge(
            observations=tensor(
                OBSERVATIONS[self.observations](random, self.n_samples, left_vectors)
            ),
            dictionary=tensor(left_vectors * singular @ right_vectors.T),
            weights=tensor(random.standard_normal(self.n_components)),
            strength=1 / self.kappa,
        )
