"""Study of accuracy: how accurate a gradient must be for a dictionary to be recovered, with the
error of the gradient measured along every training.
"""

from ..training import LearningExperiment

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

EXPERIMENTS = {
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
