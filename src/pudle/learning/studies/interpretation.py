"""Named settings of the study of interpretation: dictionaries of digits and of image patches, and the samples behind them.

Full batches and L-BFGS, for only a dictionary that learning has come to rest at is the combination of samples that it is
said to be. A name, once published, keeps its meaning: change a setting by adding another.
"""

from __future__ import annotations

from ..interpretation import InterpretationExperiment
from ..training import LearningExperiment

_DATASETS = {
    "digits": "digits(n_samples=1500, n_components=64)",
    "patches": "image_patches(n_samples=2000, n_components=64)",
}
#: The estimator and the loss it is taken of. The first ends where the combination is exact, the second elsewhere.
_GRADIENTS = {
    "alternating": ("alternating", "lasso"),
    "backprop-reconstruction": ("backprop", "reconstruction"),
}

EXPERIMENTS: dict[str, InterpretationExperiment] = {
    f"interpretation-{data}-{name}": InterpretationExperiment(
        LearningExperiment(
            dataset=dataset,
            loss=loss,
            estimator=estimator,
            algorithm="fista",
            depth=50,
            optimizer="lbfgs",
            epochs=40,
        )
    )
    for data, dataset in _DATASETS.items()
    for name, (estimator, loss) in _GRADIENTS.items()
}
