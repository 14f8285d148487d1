"""Study of optimizers: four of them, and Adam along the sphere, with five gradients.

Each optimizer has learning rates a factor of about three apart, the same for every gradient, so
that the best rate of each gradient can be found.
"""

from ..learning_experiment import LearningExperiment

#: Estimator and outer loss of each gradient.
GRADIENTS = {
    "alternating-lasso": ("alternating", "lasso"),
    "backprop-lasso": ("backprop", "lasso"),
    "analytic-lasso": ("analytic", "lasso"),
    "backprop-reconstruction": ("backprop", "reconstruction"),
    "truncated10-reconstruction": ("truncated(window=10)", "reconstruction"),
}

_SMALL_RATES = ("3e-3", "1e-2", "3e-2", "1e-1")
#: The optimizers' rates. Gradient descent moves an entry by the rate times its gradient, which is
#: far below one; Adam by about the rate itself; L-BFGS starts its line search at the rate.
RATES = {
    "sgd": ("3e-1", "1", "3", "10"),
    "momentum": ("1e-1", "3e-1", "1", "3"),
    "adam": _SMALL_RATES,
    "adam_tangent": _SMALL_RATES,
    "lbfgs": ("1e-1", "3e-1", "1"),
}
#: Mini-batches: ten steps an epoch.
BATCH, BATCH_EPOCHS = 50, 12

_DATASET = (
    "sparse_gaussian(n_samples=500, n_features=20, n_components=30, n_nonzero_coefs=3,"
    " perturbation=0.1)"
)


def _experiment(
    gradient: str, name: str, rate: str, epochs: int, batch: int | None = None
) -> LearningExperiment:
    """Return the training with a gradient of `GRADIENTS`, an optimizer by its name and a learning
    rate; full batches by default, and a row of the history for every step.
    """
    estimator, loss = GRADIENTS[gradient]
    tangent = ", tangent=True" if name == "adam_tangent" else ""
    optimizer = f"{name.removesuffix('_tangent')}(learning_rate={rate}{tangent})"
    return LearningExperiment(
        _DATASET,
        loss,
        estimator,
        "ista(step=0.2)",
        50,
        optimizer,
        epochs=epochs,
        batch=batch,
        record_every=1,
    )


# Full batches, whose steps are epochs. A step of L-BFGS has four iterations, so that it takes fewer
# steps.
EXPERIMENTS = {
    f"optimizers-{name}-{rate}-{gradient}": _experiment(
        gradient, name, rate, 30 if name == "lbfgs" else 120
    )
    for gradient in GRADIENTS
    for name, rates in RATES.items()
    for rate in rates
} | {
    f"optimizers-{name}-{rate}-{gradient}-batch{BATCH}": _experiment(
        gradient, name, rate, BATCH_EPOCHS, BATCH
    )
    # Without L-BFGS: the curvature pairs of different batches do not belong to one function.
    for gradient in ("alternating-lasso", "backprop-reconstruction")
    for name, rates in RATES.items()
    if name != "lbfgs"
    for rate in rates
}
