"""About how long a training takes, from its options alone: an order of magnitude, for somebody who
decides whether to start it.
"""

import math
from typing import Any

from .options import TrainingOptions

#: Seconds of a step besides its layers: the problem, the optimizer, a row of the history.
STEP_SECONDS = 4e-3
#: Seconds of one sample in one layer, forward and backward with kernels, of a dictionary with one
#: entry; they grow with this power of the number of entries, because codes are sparse.
LAYER_SECONDS, POWER = 1.1e-9, 0.75
#: How much longer a layer of a convolution takes at one position of its codes.
CONVOLUTION = 4.0
#: Steps that a solver of the inner problem takes, each of about the cost of a layer.
SOLVER_STEPS = 20
#: Evaluations in a step of L-BFGS.
LBFGS_EVALUATIONS = 5
#: Seconds of one certified reference.
REFERENCE_SECONDS = 0.2
#: What features a sample has where a dataset does not say: digits of 8 by 8 pixels.
USUAL_FEATURES = 64


def training_seconds(
    options: TrainingOptions, dataset: Any, gradient_error: int | None = None
) -> float | None:
    """Return about how many seconds a training takes on one core, within a factor of five or so, or
    None where the dataset does not say how large it is; nothing is drawn or run.
    """
    samples: int | None = getattr(dataset, "n_samples", None)
    atoms: int | None = getattr(dataset, "n_components", None)
    if not samples or not atoms:
        return None
    batch = min(options.batch or samples, samples)
    steps = options.epochs * math.ceil(samples / batch)
    algorithm = options.parts.algorithm
    layers = options.depth if algorithm.differentiable else min(options.depth, SOLVER_STEPS)
    seconds_of_step = STEP_SECONDS + batch * layers * _seconds_of_layer(dataset, atoms)
    if options.parts.optimizer.name == "lbfgs":
        seconds_of_step *= LBFGS_EVALUATIONS
    references = 0 if gradient_error is None else steps // gradient_error
    return steps * seconds_of_step + references * REFERENCE_SECONDS


def _seconds_of_layer(dataset: Any, atoms: int) -> float:
    """Return about how many seconds one sample takes in one layer, with `atoms` atoms or filters;
    64 features count where the dataset does not say.
    """
    kernel, size = getattr(dataset, "kernel", None), getattr(dataset, "size", None)
    if kernel and size:
        positions = (size / dataset.stride) ** 2
        return float(CONVOLUTION * positions * LAYER_SECONDS * (kernel**2 * atoms) ** POWER)
    features = getattr(dataset, "n_features", None) or (size**2 if size else USUAL_FEATURES)
    return float(LAYER_SECONDS * (features * atoms) ** POWER)
