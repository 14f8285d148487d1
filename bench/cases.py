"""The frozen list of cases, by profile. A name, once published, keeps its meaning: change a case by adding another."""

from __future__ import annotations

from pudle.case import Case, Selection

#: The paper's step; the largest curvature of its dictionaries is about 6, so that 2/L is about 0.33.
PAPER_STEP = "ista(step=0.2)"

QUICK_DEPTHS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 300, 400, 500, 600)
DEPTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800)
PUBLISHED_DEPTHS = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 100)

#: Other libraries, from the optional extra ``peers``; skipped, with the reason, where it is not installed.
PEERS = ("jaxopt_implicit", "jaxopt_unrolled", "optimistix_implicit", "torchdeq_implicit", "torchopt_implicit")

NAMED_ESTIMATORS = ("alternating", "analytic", "backprop", "truncated(window=10)")


def _cases(
    samples: int, seeds: int, depths: tuple[int, ...], problems: tuple[tuple[str, str, str], ...]
) -> tuple[Case, ...]:
    """Both losses on each (name, dataset spec with ``{n}`` for the sample count, algorithm spec)."""
    return tuple(
        Case(
            name=f"{name}-{algorithm.partition('(')[0]}-{loss}",
            dataset=dataset.format(n=samples),
            algorithm=algorithm,
            loss=loss,
            seeds=tuple(range(seeds)),
            depths=depths,
        )
        for name, dataset, algorithm in problems
        for loss in ("lasso", "reconstruction")
    )


#: The paper's model, the harder one of Malezieux et al. with their algorithm, and real photographs.
CORE = (
    ("sparse_gaussian", "sparse_gaussian(n={n})", PAPER_STEP),
    ("bernoulli_gaussian", "bernoulli_gaussian(n={n})", "fista"),
    ("image_patches", "image_patches(n={n})", "ista"),
)
MORE = (
    ("sub_gaussian", "sparse_gaussian(n={n}, amplitudes='gaussian', noise=0.05)", PAPER_STEP),
    ("digits", "digits(n=500)", "ista"),
)

QUICK = Selection(
    profile="quick",
    cases=_cases(200, 3, QUICK_DEPTHS, CORE),
    estimators=NAMED_ESTIMATORS,
    tracked_depths=(1, 10, 100, 400),
    timed_depths=(10, 200),
    timeout=120.0,
)

DEFAULT = Selection(
    profile="default",
    cases=_cases(500, 5, DEPTHS, CORE + MORE),
    estimators=(*NAMED_ESTIMATORS, "truncated(window=50)", *PEERS),
    tracked_depths=(1, 10, 50, 100, 200, 400, 800),
    timed_depths=(10, 50, 100, 200, 400),
    timeout=900.0,
)

PAPER = Selection(
    profile="paper",
    cases=tuple(
        Case(
            name=f"published-{loss}",
            dataset="sparse_gaussian(n=10000)",
            algorithm=PAPER_STEP,
            loss=loss,
            seeds=(0, 1, 2, 3, 4),
            depths=PUBLISHED_DEPTHS,
            targets=("ghat", "gstar", "gtilde"),
        )
        for loss in ("lasso", "reconstruction")
    )
    + _cases(2000, 5, DEPTHS, CORE + MORE),
    estimators=(*NAMED_ESTIMATORS, "truncated(window=50)", *PEERS),
    tracked_depths=(1, 10, 50, 100),
    timed_depths=(10, 50, 100),
    timeout=7200.0,
)

PROFILES = {selection.profile: selection for selection in (QUICK, DEFAULT, PAPER)}
