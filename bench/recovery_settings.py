"""Named settings of dictionary recovery: the paper's, and reduced ones for minutes on one core.

A name, once published, keeps its meaning: change a setting by adding another.
"""

from __future__ import annotations

import dataclasses

from pudle.learning_setting import LearningSetting

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
    "hard": "hard(level=0.1)",
}


def _rule(spec: str) -> str:
    return f"ista(step=0.2, thresholding={spec!r})"


#: From far away: full batches, three gradients, three depths. In single precision, as networks are trained, and in chunks
#: that fit into a processor's cache: twice as fast.
_FAR = LearningSetting(
    dataset="sparse_gaussian(n=10000, perturbation=0.1)",
    algorithm="ista(step=0.2)",
    optimiser="adam(learning_rate=1e-3)",
    epochs=600,
)
#: From nearby: small batches, one gradient, three rules. The rule decides what is left.
_NEAR = LearningSetting(
    dataset="sparse_gaussian(n=50000, m=1000, p=1500, s=10, perturbation=0.005)",
    loss="reconstruction",
    depth=100,
    optimiser="adam(learning_rate=1e-3, epsilon=1e-3)",
    epochs=10,
    batch=50,
    record_every=100,
)

SETTINGS: dict[str, LearningSetting] = {
    f"2a{size}-T{depth}-{gradient}": dataclasses.replace(_FAR, estimator=estimator, loss=loss, depth=depth, **changes)
    for size, changes in (
        ("", {"dtype": "float32", "chunk": 500}),
        ("-small", {"dataset": "sparse_gaussian(n=1000, perturbation=0.1)"}),
    )
    for depth in DEPTHS
    for gradient, (estimator, loss) in GRADIENTS.items()
} | {
    f"2b{size}-s{s}-{rule}": dataclasses.replace(
        _NEAR, algorithm=_rule(spec), dataset=f"sparse_gaussian({shape}, s={s}, perturbation=0.005)"
    )
    for size, shape, sparsities in (
        ("", "n=50000, m=1000, p=1500", (10, 20, 40)),
        # Atoms interfere the more the larger s/m is: three entries in 100 dimensions are nearer to ten in 1000 than ten are.
        ("-small", "n=5000, m=100, p=150", (3, 10)),
    )
    for s in sparsities
    for rule, spec in RULES.items()
}
