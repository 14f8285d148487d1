"""Study of image denoising: filters learned with three gradients, and other packages' methods."""

from collections.abc import Mapping
from dataclasses import replace

from ...measuring.experiment import Experiment
from ..denoising import METHODS, DenoisingBaseline, DenoisingExperiment
from ..images import SAMPLES

#: Estimator, outer loss and learning rate of each gradient. On the lasso loss larger rates lead to
#: filters so much alike that the algorithm's step is too long for them.
GRADIENTS = {
    "alternating": ("alternating", "lasso", 3e-4),
    "backprop": ("backprop", "reconstruction", 1e-2),
    "backprop-lasso": ("backprop", "lasso", 1e-3),
}
#: The rates are the best of the grid in `docs/results/denoising.md`, with 200 steps each. FISTA,
#: because 15 layers of ISTA with a step short enough for filters that grow alike are far from
#: convergence. One crop at a time, because small steps gain more than exact ones.
_TRAINING = DenoisingExperiment(
    dataset="noisy_crops(n_samples=400)",
    algorithm="fista(step=0.05)",
    depth=15,
    schedule="cosine",
    epochs=10,
    batch=1,
    record_every=400,
    dtype="float32",
)
_SMALL = replace(
    _TRAINING, dataset="noisy_crops(n_samples=200, size=65)", epochs=4, record_every=200
)


def _family(
    prefix: str,
    training: DenoisingExperiment,
    images: str | None,
    budget: float,
    lengths: Mapping[str, tuple[int, int]],
) -> dict[str, Experiment]:
    """Return experiments by name, which begins with the prefix: each gradient, the best one with
    learned penalties, and other packages' methods.

    `images` is the folder to learn from and to test on, by default those of the environment, and
    `lengths` has the numbers of crops and epochs of gradients that differ from the training's.
    """
    trainings = {
        name: replace(
            training,
            estimator=estimator,
            loss=loss,
            optimizer=f"adam(learning_rate={rate})",
            training_images=images,
            test_images=images,
            budget=budget,
        )
        for name, (estimator, loss, rate) in GRADIENTS.items()
    }
    for name, (crops, epochs) in lengths.items():
        dataset = f"noisy_crops(n_samples={crops})"
        trainings[name] = replace(
            trainings[name], dataset=dataset, epochs=epochs, record_every=crops
        )
    trainings["backprop-penalties"] = replace(
        trainings["backprop"], dataset=training.dataset.replace(")", ", learned_penalties=True)")
    )
    experiments: dict[str, Experiment] = {
        f"{prefix}-{name}": training for name, training in trainings.items()
    }
    for method in METHODS:
        name = method.lower().replace(" ", "-")
        experiments[f"{prefix}-{name}"] = DenoisingBaseline(images, baseline=method)
    return experiments


#: The penalties and the hard thresholds that the paper's authors published, as they trained them:
#: with the noise, the filters and the layers of all others.
PENALTIES = (0.08, 0.12, 0.16, 0.2, 0.24)
THRESHOLDS = (0.02, 0.05, 0.08, 0.1)


def _grid(prefix: str, training: DenoisingExperiment, images: str | None) -> dict[str, Experiment]:
    """Return experiments by name, which begins with the prefix: the two gradients with each
    penalty, and backprop with each hard threshold, after equally many steps. `images` is the folder
    to learn from and to test on, by default those of the environment.
    """
    training = replace(
        training, training_images=images, test_images=images, shifts=False, record_every=None
    )
    experiments: dict[str, Experiment] = {}
    for name in ("alternating", "backprop"):
        estimator, loss, rate = GRADIENTS[name]
        for penalty in PENALTIES:
            experiments[f"{prefix}-penalty-{penalty}-{name}"] = replace(
                training,
                dataset=training.dataset.replace(")", f", penalty={penalty})"),
                estimator=estimator,
                loss=loss,
                optimizer=f"adam(learning_rate={rate})",
            )
    for threshold in THRESHOLDS:
        experiments[f"{prefix}-hard-{threshold}-backprop"] = replace(
            training,
            loss="reconstruction",
            # The paper's layers, which its thresholds belong to: a hard threshold has another
            # meaning with another step.
            algorithm=f"ista(step=0.1, thresholding='hard(threshold={threshold})')",
            optimizer="adam(learning_rate=3e-3)",
        )
    return experiments


#: The paper's own start, layers, optimizer and rate, as far as it goes in as many steps.
_AS_PUBLISHED = {
    f"denoising-published-{name}": replace(
        _TRAINING,
        dataset="noisy_crops(n_samples=400, start='random')",
        estimator=estimator,
        loss=loss,
        algorithm="ista(step=0.1)",
        optimizer="adam(learning_rate=1e-4, epsilon=1e-3)",
        schedule="constant",
        epochs=2,
        shifts=False,
    )
    for name in ("alternating", "backprop")
    for estimator, loss, _ in (GRADIENTS[name],)
}

# Gradients that gain nothing from longer training on photographs have fewer crops and epochs: on
# the lasso loss the PSNR of held-out images stops rising after so many steps, and soon after the
# filters are too much alike for the step.
EXPERIMENTS = _family(
    "denoising", _TRAINING, None, 900.0, {"alternating": (100, 4), "backprop-lasso": (100, 2)}
) | _family("denoising-small", _SMALL, SAMPLES, 60.0, {})
EXPERIMENTS |= _grid(
    "denoising",
    replace(_TRAINING, dataset="noisy_crops(n_samples=200)", epochs=1),
    None,
) | _grid(
    "denoising-small",
    replace(_TRAINING, dataset="noisy_crops(n_samples=40, size=65)", epochs=1),
    SAMPLES,
)
EXPERIMENTS |= _AS_PUBLISHED
