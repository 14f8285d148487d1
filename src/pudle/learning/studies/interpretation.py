"""Study of interpretation: dictionaries of digits and of image patches, and the samples that shaped
them.

Full batches and L-BFGS, because a dictionary is a combination of samples only where learning has
converged.
"""

from ..interpretation import InterpretationExperiment

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

EXPERIMENTS = {
    f"interpretation-{data}-{name}": InterpretationExperiment(
        dataset, loss, estimator, "fista", depth=50, optimizer="lbfgs", epochs=40
    )
    for data, dataset in _DATASETS.items()
    for name, (estimator, loss) in _GRADIENTS.items()
}
