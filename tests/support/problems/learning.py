"""Problems, estimators and comparisons that the tests of learning share."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from PIL import Image

import pudle
from pudle.algorithms.unrolling import direct_gradients

OPTIMIZERS = (
    "sgd",
    "momentum",
    "adam(learning_rate=0.01)",
    "lbfgs",
)


def planted(loss="reconstruction", **options):
    sizes = {
        "n_samples": 300,
        "n_features": 20,
        "n_components": 30,
        "n_nonzero_coefs": 2,
        **options,
    }
    text = ", ".join(f"{key}={value}" for key, value in sizes.items())
    return pudle.make_dataset(f"sparse_gaussian({text}, perturbation=0.1)").problem(loss)


def untimed(history):
    return history.drop(columns="seconds")


def assert_same(first, second):
    """Two trainings are equal bit for bit, except for their seconds."""
    assert torch.equal(first.dictionary, second.dictionary)
    pd.testing.assert_frame_equal(untimed(first.history), untimed(second.history), check_exact=True)
    assert (first.status, first.reason, first.steps) == (second.status, second.reason, second.steps)


@dataclass(frozen=True)
class Watched(pudle.GradientEstimator):
    """Alternating's gradient; keeps the batches that it saw and its estimates, and spoils the
    gradient of one step.
    """

    spoiled: int = -1
    value: float = float("nan")
    seen: list = field(default_factory=list, compare=False)
    made: list = field(default_factory=list, compare=False)

    name = "watched"
    computes = "direct"

    def estimate(self, problem, algorithm, depth):
        self.seen.append(problem)
        codes = algorithm.run(problem, depth).codes
        gradient = direct_gradients(problem, codes)[0]
        if len(self.seen) - 1 == self.spoiled:
            gradient = gradient * self.value
        self.made.append(pudle.Estimate(gradient.clone(), codes))
        return pudle.Estimate(gradient, codes)


def texture(height, width, seed=0):
    """A smooth random image of 8 bits with full contrast."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal((height, width)))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    smooth = np.fft.irfft2(spectrum * np.exp(-200 * (down**2 + across**2)), s=(height, width))
    return np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)


def save_images(folder, images):
    folder.mkdir(exist_ok=True)
    for name, values in images.items():
        Image.fromarray(values).save(folder / name)
    return str(folder)
