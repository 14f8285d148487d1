"""Named settings of dictionary recovery: the paper's, and reduced ones for minutes on one core.

A name, once published, keeps its meaning: change a setting by adding another.
"""

from __future__ import annotations

import dataclasses

from ...measuring.experiment import Experiment
from ..baselines import Sklearn, Spams, Sporco
from ..training import LearningExperiment

#: The three gradients compared: the estimator and the loss it is taken of.
GRADIENTS = {
    "alternating-lasso": ("alternating", "lasso"),
    "backprop-lasso": ("backprop", "lasso"),
    "backprop-reconstruction": ("backprop", "reconstruction"),
}
DEPTHS = (25, 50, 100)

#: Factor per layer of the decaying threshold. The paper does not publish its own. After 100 layers this leaves 0.07 of the
#: penalty. What error is left falls with the square of that, but the smaller the factor, the more wrong entries hold the
#: learning back at its start (`docs/results/recovery.md`).
DECAY = 0.974
#: Threshold rules of the second experiment. The constant one is the soft threshold at the penalty 0.2.
RULES = {
    "constant": "soft",
    "decaying": f"decaying(decay={DECAY})",
    "hard": "hard(threshold=0.1)",
}


def _rule(spec: str) -> str:
    return f"ista(step=0.2, thresholding={spec!r})"


#: From far away: full batches, three gradients, three depths. In single precision, as networks are trained, and in chunks
#: that fit into a processor's cache: twice as fast.
_FAR = LearningExperiment(
    dataset="sparse_gaussian(n_samples=10000, perturbation=0.1)",
    algorithm="ista(step=0.2)",
    optimizer="adam(learning_rate=1e-3)",
    epochs=600,
)
#: From nearby: small batches, one gradient, three rules. The rule decides what is left.
_NEAR = LearningExperiment(
    dataset="sparse_gaussian(n_samples=50000, n_features=1000, n_components=1500, n_nonzero_coefs=10, perturbation=0.005)",
    loss="reconstruction",
    depth=100,
    optimizer="adam(learning_rate=1e-3, epsilon=1e-3)",
    epochs=10,
    batch=50,
    record_every=100,
)

_FAR_SMALL = "sparse_gaussian(n_samples=1000, perturbation=0.1)"


def _near(shape: str, s: int) -> str:
    return f"sparse_gaussian({shape}, n_nonzero_coefs={s}, perturbation=0.005)"


_NEAR_SMALL = "n_samples=5000, n_features=100, n_components=150"
#: Ten entries in 200 dimensions, where a hard threshold finds every support at the generating dictionary; in 100 dimensions
#: it misses some (`docs/results/recovery.md`). In single precision, which halves the time.
_NEAR_MEDIUM = "n_samples=5000, n_features=200, n_components=300"

_LEARNED: dict[str, LearningExperiment] = {
    f"2a{size}-T{depth}-{gradient}{suffix}": dataclasses.replace(
        _FAR, estimator=estimator, loss=loss, depth=depth, optimizer=optimizer, **changes
    )
    for size, changes in (
        ("", {"dtype": "float32", "chunk": 500}),
        ("-small", {"dataset": _FAR_SMALL}),
    )
    # The paper's Adam, and the same without the gradient's part along the atoms (`docs/results/recovery.md`).
    for suffix, optimizer in (("", _FAR.optimizer), ("-tangent", "adam(learning_rate=1e-3, tangent=True)"))
    for depth in DEPTHS
    for gradient, (estimator, loss) in GRADIENTS.items()
} | {
    f"2b{size}-s{s}-{rule}": dataclasses.replace(_NEAR, algorithm=_rule(spec), dataset=_near(shape, s), **changes)
    for size, shape, sparsities, changes in (
        ("", "n_samples=50000, n_features=1000, n_components=1500", (10, 20, 40), {"dtype": "float32"}),
        # Atoms interfere the more the larger s/m is: three entries in 100 dimensions are nearer to ten in 1000 than ten are.
        ("-small", _NEAR_SMALL, (3, 5, 10), {}),
        ("-medium", _NEAR_MEDIUM, (10,), {"dtype": "float32"}),
    )
    for s in sparsities
    for rule, spec in RULES.items()
}

#: The same trainings with NOODL's direction in place of a gradient.
_NOODL: dict[str, LearningExperiment] = {
    "2a-small-noodl": dataclasses.replace(
        _LEARNED["2a-small-T100-backprop-reconstruction"], estimator="noodl", algorithm=_rule(RULES["hard"])
    ),
} | {
    name.replace("hard", "noodl"): dataclasses.replace(setting, estimator="noodl")
    for name, setting in _LEARNED.items()
    if name.endswith("-hard")
}

#: Other libraries on the same data. Batches are so large that each atom is used in the first, see `Sklearn`.
_BASELINES: dict[str, Experiment] = {
    f"{name}-{library}": baseline
    for name, dataset, passes, batch in (
        ("2a-small", _FAR_SMALL, 100, 200),
        *((f"2b-small-s{s}", _near(_NEAR_SMALL, s), 10, 500) for s in (3, 5, 10)),
    )
    for library, baseline in (
        ("sklearn", Sklearn(dataset, epochs=passes, batch=batch)),
        ("spams", Spams(dataset, epochs=2 * passes, batch=batch)),
        # Its passes are single steps, which is why it needs more of them.
        ("sporco", Sporco(dataset, epochs=max(2 * passes, 100))),
    )
}

EXPERIMENTS: dict[str, Experiment] = {**_LEARNED, **_NOODL, **_BASELINES}
