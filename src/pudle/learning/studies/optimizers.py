"""Named settings of the study of optimizers: five of them, and Adam along the sphere, with five gradients.

Each optimizer is tried at rates a factor of about three apart, the same ones for every gradient, so that the best can be
told for each. A name, once published, keeps its meaning: change a setting by adding another.
"""

from __future__ import annotations

from ..training import LearningExperiment

#: The gradients: the estimator and the loss it is taken of.
GRADIENTS = {
    "alternating-lasso": ("alternating", "lasso"),
    "backprop-lasso": ("backprop", "lasso"),
    "analytic-lasso": ("analytic", "lasso"),
    "backprop-reconstruction": ("backprop", "reconstruction"),
    "truncated10-reconstruction": ("truncated(window=10)", "reconstruction"),
}

_GENTLE = ("3e-3", "1e-2", "3e-2", "1e-1")
#: The optimizers as specs that lack their rate, and their rates. Gradient descent moves an entry by the rate times its
#: gradient, which is far below one; Adam by about the rate itself; L-BFGS searches, starting from the rate.
OPTIMIZERS = {
    "sgd": ("sgd(learning_rate={})", ("3e-1", "1", "3", "10")),
    "momentum": ("momentum(learning_rate={})", ("1e-1", "3e-1", "1", "3")),
    "adam": ("adam(learning_rate={})", _GENTLE),
    "adam_tangent": ("adam(learning_rate={}, tangent=True)", _GENTLE),
    "adamw": ("adamw(learning_rate={})", _GENTLE),
    "lbfgs": ("lbfgs(learning_rate={})", ("1e-1", "3e-1", "1")),
}
#: Full batches: a step is an epoch. One of L-BFGS has four iterations, so that it takes fewer of them.
STEPS = {name: 30 if name == "lbfgs" else 120 for name in OPTIMIZERS}
#: Mini-batches: ten steps an epoch.
BATCH, BATCH_EPOCHS = 50, 12

_DATASET = "sparse_gaussian(n_samples=500, n_features=20, n_components=30, n_nonzero_coefs=3, perturbation=0.1)"


def _setting(gradient: str, optimizer: str, **options: int) -> LearningExperiment:
    estimator, loss = GRADIENTS[gradient]
    return LearningExperiment(
        dataset=_DATASET,
        loss=loss,
        estimator=estimator,
        algorithm="ista(step=0.2)",
        depth=50,
        optimizer=optimizer,
        record_every=1,
        **options,
    )


EXPERIMENTS: dict[str, LearningExperiment] = {
    f"optimizers-{name}-{rate}-{gradient}": _setting(gradient, spec.format(rate), epochs=STEPS[name])
    for gradient in GRADIENTS
    for name, (spec, rates) in OPTIMIZERS.items()
    for rate in rates
} | {
    f"optimizers-{name}-{rate}-{gradient}-batch{BATCH}": _setting(
        gradient, spec.format(rate), epochs=BATCH_EPOCHS, batch=BATCH
    )
    # The curvature pairs of different batches do not go together, which leaves L-BFGS out.
    for gradient in ("alternating-lasso", "backprop-reconstruction")
    for name, (spec, rates) in OPTIMIZERS.items()
    if name not in ("lbfgs", "adamw")
    for rate in rates
}
