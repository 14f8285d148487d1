"""Named settings of image denoising: filters learned with three gradients, and other packages' methods.

A name, once published, keeps its meaning: change a setting by adding another.
"""

from __future__ import annotations

import dataclasses

from pudle.denoising import METHODS, SAMPLES, DenoisingBaseline, DenoisingSetting
from pudle.experiment import Experiment
from pudle.learning_setting import LearningSetting

#: The three gradients compared: the estimator and the loss it is taken of.
GRADIENTS = {
    "alternating": ("alternating", "lasso"),
    "backprop": ("backprop", "reconstruction"),
    "backprop-lasso": ("backprop", "lasso"),
}
_TRAINING = LearningSetting(
    dataset="noisy_crops(n=1000)",
    algorithm="ista(step=0.1)",
    depth=15,
    optimiser="adam(learning_rate=3e-3)",
    schedule="cosine",
    epochs=20,
    batch=4,
    record_every=250,
    dtype="float32",
)
_SMALL = dataclasses.replace(_TRAINING, dataset="noisy_crops(n=200, size=65)", epochs=4, record_every=50)

SETTINGS: dict[str, Experiment] = (
    {
        f"denoising{size}-{name}": DenoisingSetting(dataclasses.replace(training, estimator=estimator, loss=loss), **changes)
        for size, training, changes in (
            ("", _TRAINING, {}),
            ("-small", _SMALL, {"training_images": SAMPLES, "test_images": SAMPLES, "budget": 60.0}),
        )
        for name, (estimator, loss) in GRADIENTS.items()
    }
    | {f"denoising-{method.lower().replace(' ', '-')}": DenoisingBaseline(method) for method in METHODS}
    | {
        f"denoising-small-{method.lower().replace(' ', '-')}": DenoisingBaseline(method, test_images=SAMPLES)
        for method in METHODS
    }
)
