"""The frozen list of cases, by profile. A name, once published, keeps its meaning: change a case by
adding another.
"""

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pudle import names
from pudle.answers import ERRORS
from pudle.learning.studies import denoising, interpretation, optimizers, published, recovery
from pudle.measuring.case import Case
from pudle.measuring.selection import Selection

#: The paper's step; the Lipschitz constant L of its dictionaries is about 6, so that 2/L is about
#: 0.33.
PAPER_STEP = "ista(step=0.2)"
#: The solver of the inner problem; its steps are not differentiated.
SOLVER = "active_set"

#: Steps of a solver, as many as the largest supports need and more.
STEPS = (5, 10, 15, 20, 30, 40, 50, 75, 100)
QUICK_DEPTHS = (1, 2, 5, 10, 20, 50, *range(100, 301, 50), 400, 500, 600)
DEPTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, *range(100, 501, 50), 600, 700, 800)
#: Figure 3 of Malézieux et al. has 1 to 1000 iterations; short windows are said to win between 30
#: and 200.
MALEZIEUX_DEPTHS = (1, 2, *range(5, 31, 5), 40, 50, 60, *range(75, 201, 25), 300, 500, 1000)
PUBLISHED_DEPTHS = (1, 2, 3, 5, 7, *range(10, 31, 5), 40, 50, 60, 75, 90, 100)

#: Estimators of other libraries, from the optional extra ``peers``; skipped, with the reason, where
#: it is not installed.
PEERS = (
    "jaxopt_implicit",
    "jaxopt_unrolled",
    "optimistix_implicit",
    "torchdeq_implicit",
    "torchopt_implicit",
)
NAMED_ESTIMATORS = ("alternating", "analytic", "backprop", "truncated(window=10)")
#: The options with which estimators are measured, where they are not the default ones.
OPTIONS = {
    "conjugate_gradient": ("conjugate_gradient(iterations=20)",),
    "fixed_point": ("fixed_point(terms=50)",),
    "pes": ("pes(samples=20)",),
    "spsa": ("spsa(samples=20)",),
    "truncated": ("truncated(window=10)", "truncated(window=50)"),
}


def _estimators() -> Iterator[str]:
    """Yield the specs of all that this package registers, those with names of their own first. No
    class is loaded here: plug-ins may come later.
    """
    yield from NAMED_ESTIMATORS
    for point in names.points("estimators"):
        if names.owner(point) == names.PACKAGE:
            specs = OPTIONS.get(point.name, (point.name,))
            yield from (spec for spec in specs if spec not in NAMED_ESTIMATORS)


ESTIMATORS = tuple(_estimators())

Depths = tuple[int, ...]
Texts = tuple[str, ...]


def _cases(
    depths: Depths,
    seeds: int,
    samples: int,
    problems: Iterable[Texts],
    targets: Texts = ("exact",),
    solver: str = "",
) -> tuple[Case, ...]:
    """Return a case per problem and loss, ``lasso`` and ``reconstruction``, with the seeds from 0;
    a problem is a name, a dataset with ``{n}`` for the samples, and an algorithm, whose place a
    `solver` takes.
    """
    return tuple(
        Case(
            f"{name}-{(solver or rule).partition('(')[0]}-{loss}",
            dataset.format(n=samples),
            solver or rule,
            loss,
            tuple(range(seeds)),
            depths,
            targets,
        )
        for name, dataset, rule in problems
        for loss in ("lasso", "reconstruction")
    )


#: The paper's model, the harder one of Malézieux et al. with their algorithm, and real photographs.
CORE = (
    ("sparse_gaussian", "sparse_gaussian(n_samples={n})", PAPER_STEP),
    ("bernoulli_gaussian", "bernoulli_gaussian(n_samples={n})", "fista"),
    ("image_patches", "image_patches(n_samples={n})", "ista"),
)
PUBLISHED = (("published", "sparse_gaussian(n_samples={n})", PAPER_STEP),)
MALEZIEUX = (("malezieux", "bernoulli_gaussian(n_samples={n})", "fista"),)
MORE = (
    (
        "sub_gaussian",
        "sparse_gaussian(n_samples={n}, amplitudes='gaussian', noise=0.05)",
        PAPER_STEP,
    ),
    ("digits", "digits(n_samples=500)", "ista"),
    ("convolutional", "convolutional", "ista"),
)
#: Small enough for derivatives in every direction, and for every estimator to be compared with all
#: others.
SMALL = (
    (
        "sparse_gaussian_small",
        "sparse_gaussian(n_samples=50, n_features=10, n_components=20, n_nonzero_coefs=2)",
        "ista",
    ),
)
#: Thresholdings that reduce PUDLE's bias lead to no lasso minimizer: the generating dictionary and
#: codes give the reference.
UNBIASED = (
    (
        "sparse_gaussian_decaying",
        "sparse_gaussian(n_samples={n})",
        "ista(step=0.2, thresholding='decaying(decay=0.99)')",
    ),
    (
        "sparse_gaussian_hard",
        "sparse_gaussian(n_samples={n})",
        "ista(step=0.2, thresholding='hard(threshold=0.15)')",
    ),
)
KAPPA = 100
GRADIENT_DESCENT = "gradient_descent"
#: Beyond 200 layers rounding is all of its errors, and the other 600 would be most of the cost.
HYPER_CLEANING_DEPTHS = tuple(depth for depth in DEPTHS if depth <= 200)
#: Problems whose parameter is a scalar: the lasso's penalty, and ridge regression with the worst
#: step for unrolling. Smooth problems of the bilevel field. A deep-equilibrium layer, given by its
#: step alone, for which no exact solver is known. The iteration that names call so is gradient
#: descent, as it was when they were published.
OTHERS = tuple(
    Case(
        f"{name}-{loss}",
        dataset,
        rule,
        loss,
        tuple(range(5)),
        depths,
        (target,),
    )
    for name, dataset, rule, loss, target, depths in (
        ("penalty_selection-ista", "penalty_selection", "ista", "held_out", "exact", DEPTHS),
        (
            "ridge-ista",
            f"ridge(kappa={KAPPA})",
            f"ista(step={2 * KAPPA / (KAPPA + 1)!r})",
            "linear",
            "exact",
            DEPTHS,
        ),
        ("logistic-iteration", "logistic", GRADIENT_DESCENT, "held_out", "exact", DEPTHS),
        (
            "logistic_features-iteration",
            "logistic(per_feature=True)",
            GRADIENT_DESCENT,
            "held_out",
            "exact",
            DEPTHS,
        ),
        ("quadratic-gradient_descent", "quadratic", GRADIENT_DESCENT, "quadratic", "exact", DEPTHS),
        (
            "hyper_cleaning-gradient_descent",
            "hyper_cleaning",
            GRADIENT_DESCENT,
            "validation",
            "exact",
            HYPER_CLEANING_DEPTHS,
        ),
        ("equilibrium-iteration", "equilibrium", "iteration", "cross_entropy", "limit", DEPTHS),
    )
)

SMALL_CASES = ("*_small-*",)
SCALAR_CASES = ("penalty_selection-*", "ridge-*")
FEW_PARAMETERS = (*SCALAR_CASES, "logistic*")
SMOOTH_CASES = ("logistic*", "quadratic-*", "hyper_cleaning-*")
PEER_CASES = (*SMALL_CASES, "sparse_gaussian-ista-lasso")
COSTLY = "its cost grows with the number of parameters"
NOISY = "its variance grows with the number of parameters"
#: The estimators that are not measured everywhere: why not, and on which cases they are.
EXCEPTIONS: dict[str, tuple[str, Texts]] = {
    **dict.fromkeys(PEERS, ("it starts or compiles another library", PEER_CASES)),
    **dict.fromkeys(("a_posteriori", "first_order"), ("it needs a StronglyConvex", SMOOTH_CASES)),
    # On photographs, the others take seconds for each gradient, or for compiling at each depth.
    "jaxopt_implicit": (
        "it starts or compiles another library",
        (*PEER_CASES, "image_patches-ista-lasso"),
    ),
    "optimistix_implicit": (
        "it decomposes a matrix for each sample, which takes seconds on larger cases",
        SMALL_CASES,
    ),
    "checkpointed": (
        "it runs every layer twice for the gradient of backprop",
        (*SMALL_CASES, "sparse_gaussian-*", "published-*"),
    ),
    # On the small case a gradient takes a tenth of `finite_difference`'s 1.5 s, and is as exact.
    "forward": (COSTLY, ("*_small-*-reconstruction", *FEW_PARAMETERS, "equilibrium-*")),
    "finite_difference": (COSTLY, FEW_PARAMETERS),
    "drmad": ("its error falls no faster than the inverse depth", (*SMALL_CASES, "ridge-*")),
    "noodl": (
        "its direction vanishes where codes are not shrunk",
        (*SMALL_CASES, "sparse_gaussian_hard-*-reconstruction"),
    ),
    "nystrom": (
        "a few columns stand for no larger Hessian",
        (*SMALL_CASES, "logistic_features-*"),
    ),
    "phantom": ("it is made for deep-equilibrium layers", (*SMALL_CASES, "equilibrium-*")),
    "pes(samples=20)": (NOISY, (*SMALL_CASES, "penalty_selection-*")),
    # It solves for dense supports at the first depths, which takes longer than all layers.
    "polished": (
        "supports become right late, or not within these depths",
        (*SMALL_CASES, "sparse_gaussian-*", "sub_gaussian-*", "image_patches-*", *SMOOTH_CASES)
        + SCALAR_CASES,
    ),
    "spsa(samples=20)": (NOISY, (*SMALL_CASES, "penalty_selection-*")),
}
#: Those that are measured where the inner problem is solved; others differentiate layers, or
#: approximate what is exact there.
AT_SOLUTIONS = ("alternating", "analytic", *OPTIONS["conjugate_gradient"])
NOT_SOLVED = tuple(
    (spec, f"!*-{SOLVER}-*", "where a solver has no layers, the implicit formula is exact")
    for spec in ESTIMATORS
    if spec not in AT_SOLUTIONS
)
LIMITED = NOT_SOLVED + tuple(
    (spec, pattern, reason)
    for spec, (reason, patterns) in EXCEPTIONS.items()
    for pattern in patterns
)
#: The suite's own experiments.
EXPERIMENTS = [
    name
    for study in (recovery, optimizers, denoising, interpretation, published)
    for name in study.EXPERIMENTS
]


def _experiments(*patterns: str) -> Texts:
    return tuple(name for pattern in patterns for name in fnmatch.filter(EXPERIMENTS, pattern))


QUICK = Selection(
    profile="quick",
    timed_errors=ERRORS,
    cases=_cases(QUICK_DEPTHS, 3, 200, CORE) + _cases(STEPS, 3, 200, CORE, solver=SOLVER),
    limited=NOT_SOLVED,
    estimators=NAMED_ESTIMATORS,
    tracked_depths=(1, 10, 100, 400),
    # 40 steps of the solver, at which photographs are nearly solved, are no depth of layers here.
    timed_depths=(1, 10, 40, 100, 600),
    timeout=120.0,
    # What the errors of gradients lead to, in seconds.
    experiments=_experiments("2a-quick-*"),
)


def _all_cases(samples: int) -> tuple[Case, ...]:
    unbiased = _cases(DEPTHS, 5, samples, UNBIASED, targets=("gstar", "gtilde"))
    solved = _cases(STEPS, 5, samples, CORE + MORE[:2], solver=SOLVER)
    return _cases(DEPTHS, 5, samples, CORE + MORE + SMALL) + solved + unbiased + OTHERS


DEFAULT = Selection(
    profile="default",
    timed_errors=ERRORS,
    cases=_all_cases(500),
    limited=LIMITED,
    estimators=ESTIMATORS,
    tracked_depths=(10, 100, 400, 800),
    timed_depths=(1, 10, 100, 800),
    torch_depths=(100,),
    timeout=900.0,
    # Reduced, on data that are drawn or come with scikit-learn.
    experiments=_experiments(
        "2a-small-T25-*",
        "2a-small-T50-*",
        "2a-small-exact-*n",
        "2a-small-warm-fista25-*n",
        "2a-small-[ns]*",
        "2b-small-s3-*",
        "2b-medium-s10-*",
        "optimizers-*",
        "denoising-small-*",
        "interpretation-*",
        "noise-small-T25-*-s0",
        "pairs-small-start-*",
        "pairs-small-T25-*-s0",
        "batches-small-T100-64-*-s0",
    ),
)

PAPER = replace(
    DEFAULT,
    profile="paper",
    # Malézieux et al. compare this window as well.
    estimators=(*ESTIMATORS, "truncated(window=20)"),
    limited=(*LIMITED, ("truncated(window=20)", *NOT_SOLVED[0][1:])),
    cases=_cases(PUBLISHED_DEPTHS, 5, 10000, PUBLISHED, targets=("ghat", "gstar", "gtilde"))
    + _cases(MALEZIEUX_DEPTHS, 5, 1000, MALEZIEUX)
    + _all_cases(2000),
    tracked_depths=(1, 10, 50, 100),
    timed_depths=(1, 10, 50, 100, 200, 500, 800),
    timeout=7200.0,
    # The paper's sizes: on a CPU, days for 2b and hours for all others.
    experiments=_experiments(
        "2a-T*",
        "2a-exact-*",
        "2a-warm-*",
        "2b-s[124]0-*",
        "optimizers-*",
        "denoising-[abntw]*",
        "denoising-penalty-*",
        "denoising-hard-*",
        "denoising-published-*",
        "interpretation-*",
        "noise-T*",
        "rates-T*",
        "batches-T*",
        "pairs-start-*",
        "pairs-T*",
        "noodl-*",
        "annealed-*",
        "gap-*",
    ),
    experiment_timeout=24 * 3600.0,
)

PROFILES = {selection.profile: selection for selection in (QUICK, DEFAULT, PAPER)}
