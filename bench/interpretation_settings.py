"""Named settings of the study of interpretation: dictionaries of digits and of image patches, and the samples behind them.

Full batches and L-BFGS, for only a dictionary that learning has come to rest at is the combination of samples that it is
said to be. A name, once published, keeps its meaning: change a setting by adding another.
"""

from __future__ import annotations

from pudle.learning.interpretation import InterpretationSetting
from pudle.learning.setting import LearningSetting

_DATASETS = {
    "digits": "digits(n=1500, p=64)",
    "patches": "image_patches(n=2000, p=64)",
}
#: The estimator and the loss it is taken of. The first ends where the combination is exact, the second elsewhere.
_GRADIENTS = {
    "alternating": ("alternating", "lasso"),
    "backprop-reconstruction": ("backprop", "reconstruction"),
}

SETTINGS: dict[str, InterpretationSetting] = {
    f"interpretation-{data}-{name}": InterpretationSetting(
        LearningSetting(
            dataset=dataset,
            loss=loss,
            estimator=estimator,
            algorithm="fista",
            depth=50,
            optimiser="lbfgs",
            epochs=40,
        )
    )
    for data, dataset in _DATASETS.items()
    for name, (estimator, loss) in _GRADIENTS.items()
}
