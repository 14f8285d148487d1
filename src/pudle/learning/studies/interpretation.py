"""Study of interpretation: dictionaries of digits and of image patches, the samples that shaped
them, and images explained by the samples.

Full batches and L-BFGS, because a dictionary is a combination of samples only where learning has
converged.
"""

from ..interpretation import EXPLANATIONS, ExplanationExperiment, InterpretationExperiment

_DATASETS = {
    "digits": "digits(n_samples=1500, n_components=64)",
    "patches": "image_patches(n_samples=2000, n_components=64)",
}
#: Estimator and outer loss of each gradient. The combination is exact where the first converges,
#: but not for the second.
_GRADIENTS = {
    "alternating": ("alternating", "lasso"),
    "backprop-reconstruction": ("backprop", "reconstruction"),
}

EXPERIMENTS: dict[str, InterpretationExperiment] = {
    f"interpretation-{data}-{name}": InterpretationExperiment(
        dataset, loss, estimator, "fista", depth=50, optimizer="lbfgs", epochs=40
    )
    for data, dataset in _DATASETS.items()
    for name, (estimator, loss) in _GRADIENTS.items()
} | {
    f"interpretation-digits-{explains}": ExplanationExperiment(
        _DATASETS["digits"],
        "lasso",
        "alternating",
        "fista",
        depth=50,
        optimizer="lbfgs",
        epochs=40,
        explains=explains,
    )
    for explains in EXPLANATIONS
}
