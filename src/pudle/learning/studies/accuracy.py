"""Study of accuracy: how accurate a gradient must be for a dictionary to be recovered, with the
error of the gradient measured along every training.

``accuracy-*`` find the thresholds, ``transfer-*`` try them with other optimizers, learning rates
and sizes, and ``disturbed-*`` try errors of one size in several directions.
"""

from ..disturbed import Direction, DisturbedExperiment
from ..learning_experiment import LearningExperiment

#: Perturbation of the first dictionary.
STARTS = {"far": 0.1, "near": 0.005}
#: Passes over the samples until no gradient learns much more.
EPOCHS = {"lasso": 200, "reconstruction": 600}
#: Estimators by their names here and the depths that give gradients from a third to a thousandth
#: off, with their specs.
ESTIMATORS = {
    "backprop": ("backprop", (10, 25, 50, 100)),
    "alternating": ("alternating", (25, 100)),
    "truncated10": ("truncated(window=10)", (100,)),
    "exact": ("analytic", (1000,)),
}

_THRESHOLDS = {
    f"accuracy-{start}-{loss}-{name}-T{depth}-s{seed}": LearningExperiment(
        f"sparse_gaussian(n_samples=500, perturbation={perturbation})",
        loss,
        estimator,
        # What solves for the codes takes no more steps than its depth, and as many as it needs.
        "active_set" if name == "exact" else "ista(step=0.2)",
        depth,
        "adam(learning_rate=1e-3)",
        epochs=epochs,
        seed=seed,
        gradient_error=epochs // 20,
    )
    for start, perturbation in STARTS.items()
    for loss, epochs in EPOCHS.items()
    for name, (estimator, depths) in ESTIMATORS.items()
    for depth in depths
    for seed in range(3)
}

_SIZES = {
    "": "sparse_gaussian(n_samples=500, perturbation=0.1)",
    "small-": (
        "sparse_gaussian(n_samples=500, n_features=20, n_components=30, n_nonzero_coefs=3,"
        " perturbation=0.1)"
    ),
}
#: Optimizers by size and loss, with the epochs in which the exact gradient gets near its end. At
#: the first size the learning rate 1e-3 is that of `accuracy-*`.
_OPTIMIZERS = {
    ("", "lasso"): {"sgd(learning_rate=3)": 100, "adam(learning_rate=3e-3)": 150},
    ("", "reconstruction"): {"sgd(learning_rate=3)": 200, "adam(learning_rate=3e-3)": 300},
    ("small-", "lasso"): {
        "sgd(learning_rate=1)": 100,
        "adam(learning_rate=1e-3)": 250,
        "adam(learning_rate=3e-3)": 150,
        "adam(learning_rate=1e-2)": 100,
    },
    ("small-", "reconstruction"): {
        "sgd(learning_rate=1)": 200,
        "adam(learning_rate=1e-3)": 450,
        "adam(learning_rate=3e-3)": 200,
        "adam(learning_rate=1e-2)": 100,
    },
}
#: Layers of backprop with which `accuracy-*` ended where the exact gradient does.
_DEPTHS = {"lasso": 50, "reconstruction": 100}

_TRANSFERRED = {
    f"transfer-{size}{optimizer.replace('(learning_rate=', '').strip(')')}-{loss}-{name}-T{depth}"
    f"-s{seed}": LearningExperiment(
        _SIZES[size],
        loss,
        estimator,
        algorithm,
        depth,
        optimizer,
        epochs=epochs,
        seed=seed,
        gradient_error=epochs // 10,
    )
    for seed in range(3)
    for (size, loss), optimizers in _OPTIMIZERS.items()
    for optimizer, epochs in optimizers.items()
    for name, estimator, algorithm, depth in (
        ("backprop", "backprop", "ista(step=0.2)", _DEPTHS[loss]),
        ("exact", "analytic", "active_set", 1000),
    )
}

#: The sizes of error up to which trainings of `accuracy-*` ended where the exact gradient does.
_ENOUGH = {"lasso": 0.0354, "reconstruction": 0.113}
#: Direction of the error, by start, and its size; None stands for the size above.
_ERRORS: dict[str, tuple[tuple[Direction, float | None], ...]] = {
    "far": (("noise", None), ("noise", 1.0), ("fixed", None), ("toward", None), ("away", None)),
    "near": (("noise", None), ("away", None)),
    "sgd-far": (("noise", None), ("away", None)),
}


def _disturbed_trainings() -> dict[str, DisturbedExperiment]:
    """Return the trainings with the exact gradient and an error of one of `_ERRORS`, by name."""
    trainings = {}
    for seed in range(3):
        for start, errors in _ERRORS.items():
            perturbation = STARTS[start.removeprefix("sgd-")]
            is_sgd = start.startswith("sgd")
            for loss, epochs in EPOCHS.items():
                for direction, size in errors:
                    error = size or _ENOUGH[loss]
                    name = f"disturbed-{start}-{loss}-{direction}-{error:g}-s{seed}"
                    trainings[name] = DisturbedExperiment(
                        f"sparse_gaussian(n_samples=500, perturbation={perturbation})",
                        loss,
                        "analytic",
                        "active_set",
                        1000,
                        "sgd(learning_rate=3)" if is_sgd else "adam(learning_rate=1e-3)",
                        epochs=epochs,
                        seed=seed,
                        gradient_error=epochs // 4,
                        error=error,
                        direction=direction,
                    )
    return trainings


EXPERIMENTS = {**_THRESHOLDS, **_TRANSFERRED, **_disturbed_trainings()}
