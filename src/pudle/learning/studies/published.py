"""Study of what else was published with the paper: recovery with noise in the data, other batches
and learning rates, a start from pairs of samples, NOODL and decaying thresholds as the paper's
authors ran them, and whether the gap between the losses is due to the loss.

The settings are those of the authors' code (`btolooshams/stable-interpretable-unrolled-dl`). Names
with ``small`` are reduced: 1000 samples, where the paper has 10000.
"""

from dataclasses import fields, replace

from ..annealed import AnnealedExperiment
from ..learning_experiment import LearningExperiment
from ..pairwise_start import PairwiseStartExperiment
from .recovery import EXPERIMENTS as RECOVERY
from .recovery import GRADIENTS

SEEDS = range(3)
SIZES = {"": 10_000, "small-": 1000}
#: Standard deviation of the noise in the authors' data with noise.
NOISE = 0.12

#: Far start, full batches, in single precision and in chunks that fit into a processor's cache.
_FAR = LearningExperiment(
    "",
    algorithm="ista(step=0.2)",
    optimizer="adam(learning_rate=1e-3)",
    epochs=600,
    record_every=20,
    dtype="float32",
    chunk=500,
)


def _dataset(n_samples: int, noise: float = 0.0) -> str:
    options = f"n_samples={n_samples}, perturbation=0.1"
    return f"sparse_gaussian({options}, noise={noise})" if noise else f"sparse_gaussian({options})"


_NOISE = {
    f"noise-{size}T{depth}-{estimator}-{loss}-s{seed}": replace(
        _FAR,
        dataset=_dataset(n_samples, NOISE),
        estimator=estimator,
        loss=loss,
        depth=depth,
        seed=seed,
    )
    for size, n_samples in SIZES.items()
    for depth in (25, 100)
    for estimator, loss in GRADIENTS
    for seed in SEEDS
}

#: Learning rates below and above the paper's 1e-3.
_RATES = {
    f"rates-{size}T100-{rate}-{estimator}-{loss}-s{seed}": replace(
        _FAR,
        dataset=_dataset(n_samples),
        estimator=estimator,
        loss=loss,
        depth=100,
        optimizer=f"adam(learning_rate={rate})",
        seed=seed,
    )
    for size, n_samples in SIZES.items()
    for rate in ("1e-4", "1e-3", "1e-2")
    for estimator, loss in GRADIENTS
    for seed in SEEDS
}

#: Passes over the samples: the paper's 600 would be 1.5 million steps with batches of 4.
BATCH_EPOCHS = 5
_BATCHES = {
    f"batches-{size}T100-{batch}-{estimator}-{loss}-s{seed}": replace(
        _FAR,
        dataset=_dataset(n_samples),
        estimator=estimator,
        loss=loss,
        depth=100,
        batch=batch,
        epochs=BATCH_EPOCHS,
        record_every=max(n_samples * BATCH_EPOCHS // batch // 20, 1),
        seed=seed,
    )
    for size, n_samples in SIZES.items()
    for batch in (4, 16, 64)
    for estimator, loss in GRADIENTS
    for seed in SEEDS
}


def _near(sparsity: int, rule: str) -> LearningExperiment:
    """Return the paper's training near the generating dictionary, from the study of recovery, with
    a thresholding rule.
    """
    experiment = RECOVERY[f"2b-s{sparsity}-{rule}"]
    assert isinstance(experiment, LearningExperiment)
    return experiment


#: NOODL as the paper's authors ran it: plain descent along its direction, with the codes, batches
#: and number of steps of their own rows. Their learning rate is 20, and their code divides the
#: direction by the batch of 50 twice.
_NOODL = {
    f"noodl-s{sparsity}-s{seed}": replace(
        _near(sparsity, "hard"),
        estimator="noodl",
        optimizer="sgd(learning_rate=0.4)",
        epochs=1,
        seed=seed,
    )
    for sparsity in (10, 20, 40)
    for seed in SEEDS
}

#: Thresholds that decay as in the authors' script, which starts without a decay and lowers it by
#: 0.005 every 100 steps.
_ANNEALED = {
    f"annealed-s{sparsity}-s{seed}": AnnealedExperiment(
        **{field.name: getattr(constant, field.name) for field in fields(constant)}
        | {"epochs": 1, "seed": seed}
    )
    for sparsity in (10, 20, 40)
    for constant in (_near(sparsity, "constant"),)
    for seed in SEEDS
}

#: Start from pairs of samples, and the authors' training from it: batches of 100, 2000 steps, and
#: their penalty relative to the size of a coefficient, 0.5 for 5. Their size, m = 1000, p = 1500
#: and s = 10, would take a day for the pairs alone.
_SHAPES = {
    "": (20_000, 100, 120, 10),
    "small-": (6_000, 128, 40, 4),
}


def _from_pairs(shape: tuple[int, int, int, int], seed: int) -> PairwiseStartExperiment:
    """Return the training from pairs of samples whose numbers of samples, features, components and
    epochs are given.
    """
    n_samples, n_features, n_components, epochs = shape
    return PairwiseStartExperiment(
        f"sparse_gaussian(n_samples={n_samples}, n_features={n_features},"
        f" n_components={n_components}, n_nonzero_coefs=2, penalty=0.15)",
        algorithm="ista(step=0.2)",
        optimizer="adam(learning_rate=1e-3, epsilon=1e-3)",
        batch=100,
        epochs=epochs,
        record_every=100,
        seed=seed,
        n_nonzero_coefs=2,
    )


_PAIRS = {
    f"pairs-{size}start-s{seed}": replace(_from_pairs(shape, seed), epochs=0)
    for size, shape in _SHAPES.items()
    for seed in range(5)
} | {
    f"pairs-{size}T{depth}-{estimator}-{loss}-s{seed}": replace(
        _from_pairs(shape, seed), estimator=estimator, loss=loss, depth=depth
    )
    for size, shape in _SHAPES.items()
    for depth in (25, 100)
    for estimator, loss in GRADIENTS
    for seed in SEEDS
}

#: Optimizers and the rates that were tried for each; ``tangent`` is Adam without the part
#: of the gradient along the atoms.
GAP_RATES = {
    "sgd": ("1", "3", "10"),
    "momentum": ("1e-1", "3e-1", "1"),
    "adam": ("3e-4", "1e-3", "3e-3"),
    "tangent": ("1e-3", "3e-3", "1e-2"),
}
#: A gradient of the lasso loss, and one of the reconstruction loss.
_TWO = (GRADIENTS[0], GRADIENTS[2])


def _gap(optimizer: str, rate: str) -> str:
    if optimizer == "tangent":
        return f"adam(learning_rate={rate}, tangent=True)"
    return f"{optimizer}(learning_rate={rate})"


#: Every rate once, at 50 layers.
_RATES_OF_GAP = {
    f"gap-small-T50-{optimizer}-{rate}-{estimator}-{loss}-s0": replace(
        _FAR,
        dataset=_dataset(SIZES["small-"]),
        estimator=estimator,
        loss=loss,
        depth=50,
        optimizer=_gap(optimizer, rate),
    )
    for optimizer, rates in GAP_RATES.items()
    for rate in rates
    for estimator, loss in _TWO
}
#: At the paper's size with the steps after which these no longer move: the distance that a loss
#: leaves where the optimizer adds none. `2a-T*` are the same with the paper's Adam.
_GAP = {
    f"gap-T{depth}-{optimizer}-{rate}-{estimator}-{loss}-s{seed}": replace(
        _FAR,
        dataset=_dataset(SIZES[""]),
        estimator=estimator,
        loss=loss,
        depth=depth,
        optimizer=_gap(optimizer, rate),
        epochs=epochs,
        record_every=10,
        seed=seed,
    )
    for optimizer, rate, epochs in (("sgd", "3", 150), ("tangent", "1e-2", 250))
    for depth in (25, 50, 100)
    for estimator, loss in GRADIENTS
    for seed in SEEDS
}

EXPERIMENTS: dict[str, LearningExperiment] = {
    **_NOISE,
    **_RATES,
    **_BATCHES,
    **_NOODL,
    **_ANNEALED,
    **_PAIRS,
    **_RATES_OF_GAP,
    **_GAP,
}
