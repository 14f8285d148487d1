"""Named settings of image denoising: filters learned with three gradients, and other packages' methods.

A name, once published, keeps its meaning: change a setting by adding another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ...measuring.experiment import Experiment
from ..denoising import METHODS, SAMPLES, DenoisingBaseline, DenoisingExperiment
from ..training import LearningExperiment

#: The three gradients compared: the estimator, the loss it is taken of, and the learning rate. On the lasso loss larger ones
#: lead to filters so much alike that the step is too long for them.
GRADIENTS = {
    "alternating": ("alternating", "lasso", 3e-4),
    "backprop": ("backprop", "reconstruction", 1e-2),
    "backprop-lasso": ("backprop", "lasso", 1e-3),
}
#: The rates are the best of the grid in `docs/results/denoising.md`, all of 200 steps. Accelerated, for within 15
#: layers plain iterations with a step short enough for filters that grow alike are far from their end; one crop at a time,
#: for small steps are worth more than exact ones.
_TRAINING = LearningExperiment(
    dataset="noisy_crops(n_samples=400)",
    algorithm="fista(step=0.05)",
    depth=15,
    schedule="cosine",
    epochs=10,
    batch=1,
    record_every=400,
    dtype="float32",
)
_SMALL = dataclasses.replace(_TRAINING, dataset="noisy_crops(n_samples=200, size=65)", epochs=4, record_every=200)


#: Of the gradients for which longer does not pay on photographs: crops and passes. On the lasso loss the PSNR of images held
#: out stops rising after so many steps, and soon after the filters are too much alike for the step.
LENGTHS = {"alternating": (100, 4), "backprop-lasso": (100, 2)}


def _family(
    prefix: str, training: LearningExperiment, images: str | None, budget: float, lengths: Mapping[str, tuple[int, int]]
) -> dict[str, Experiment]:
    """Return settings by name: every gradient, the best one with penalties learned as well, and other packages' methods."""

    def learned(changed: LearningExperiment) -> DenoisingExperiment:
        return DenoisingExperiment(changed, training_images=images, test_images=images, budget=budget)

    trainings = {
        name: dataclasses.replace(training, estimator=estimator, loss=loss, optimizer=f"adam(learning_rate={rate})")
        for name, (estimator, loss, rate) in GRADIENTS.items()
    }
    for name, (crops, epochs) in lengths.items():
        trainings[name] = dataclasses.replace(
            trainings[name], dataset=f"noisy_crops(n_samples={crops})", epochs=epochs, record_every=crops
        )
    with_penalties = training.dataset.replace(")", ", learned_penalties=True)")
    trainings["backprop-penalties"] = dataclasses.replace(trainings["backprop"], dataset=with_penalties)
    return {f"{prefix}-{name}": learned(changed) for name, changed in trainings.items()} | {
        f"{prefix}-{method.lower().replace(' ', '-')}": DenoisingBaseline(method, test_images=images) for method in METHODS
    }


EXPERIMENTS: dict[str, Experiment] = _family("denoising", _TRAINING, None, 900.0, LENGTHS) | _family(
    "denoising-small", _SMALL, SAMPLES, 60.0, {}
)
