"""Time of a gradient beside other programs for the same gradient; `make peers` runs it and prints
two tables: on one core, and on all of them.

The contenders of a row take turns, so that a change of the machine's speed hits all of them; least
and greatest time and the ratio of the least times are shown. All run in float32, in as many threads
as there are cores. Every gradient that is timed is compared with plain torch in float64, or with
the certified one, and so is the contender's own gradient in float64.
"""

import os

import pytest
import torch
from support.estimators.contenders import CONTENDERS, Task

import pudle
from pudle.threads import number_of_cores

#: Cores for everybody, one unless the variable asks for all that this process may use.
N_CORES = number_of_cores() if os.environ.get("PEERS_CORES") == "all" else 1

#: Relative error of a gradient after a hundred layers, by precision.
AGREEMENT = {torch.float32: 1e-5, torch.float64: 1e-11}
#: That of exact gradients, with those that are certified: SPAMS stops at about 1e-9.
EXACT_AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-8}

#: Not a contender: it computes no gradient.
BOUND = "dense bound"

#: Who computes the gradients at many depths at once.
SWEEPERS = ("pudle", "pudle, torch", "published layers")

#: Who computes truncated gradients.
TRUNCATED = ("pudle", "pudle, torch", "torch autograd")

#: Who computes the same gradient through layers.
UNROLLERS = (
    "pudle",
    "pudle, torch",
    "JAX",
    "torch autograd",
    "torch.compile",
    "published layers",
    BOUND,
)

#: Who computes the exact gradient, beside `backprop` through a hundred layers.
SOLVERS = ("pudle", "active_set", "active_set, warm", "SPAMS")

#: On one core: a task, its number of turns, and who takes part.
ROWS_ON_ONE_CORE = {
    "n=1000, m=50, p=100, T=100": (
        Task("sparse_gaussian(n_samples=1000)", (100,)),
        6,
        UNROLLERS,
    ),
    "n=10000, m=50, p=100, T=50": (
        Task("sparse_gaussian(n_samples=10000)", (50,)),
        4,
        UNROLLERS,
    ),
    "n=50, m=1000, p=1500, T=100": (
        Task(
            "sparse_gaussian(n_samples=50, n_features=1000, n_components=1500, n_nonzero_coefs=10,"
            " perturbation=0.005)",
            (100,),
            ("reconstruction",),
        ),
        4,
        UNROLLERS,
    ),
    "sweep T=1..100, alternating and backprop, both losses, n=1000, m=50, p=100": (
        # Of a sweep's ten million codes some would lie within rounding of their threshold.
        Task(
            "sparse_gaussian(n_samples=1100)",
            tuple(range(1, 101)),
            ("lasso", "reconstruction"),
            samples=1000,
        ),
        2,
        SWEEPERS,
    ),
    "a window of 10 layers, n=1000, m=50, p=100, T=100": (
        Task("sparse_gaussian(n_samples=1000)", (100,), window=10),
        6,
        TRUNCATED,
    ),
    "a window of 10 layers, dense codes, n=1000, m=30, p=50, T=600": (
        Task("bernoulli_gaussian(n_samples=1000)", (600,), window=10),
        6,
        TRUNCATED,
    ),
    **{
        f"exact beside T=100, {row}": (Task(dataset, (100,), exact=True), 6, SOLVERS)
        for row, dataset in {
            "n=1000, m=50, p=100": "sparse_gaussian(n_samples=1000)",
            "photographs, n=2000, m=64, p=128": "image_patches(n_samples=2000)",
            "digits, n=500, m=64, p=128": "digits(n_samples=500)",
        }.items()
    },
}

#: Those who compute the same gradient through layers, and use all cores that they are given.
SHARERS = ("pudle", "JAX", "torch autograd", "torch.compile")

#: On all cores: more samples, so that there is something to share.
ROWS_ON_ALL_CORES = {
    **{
        f"n={n}, m=50, p=100, T={depth}": (
            Task(f"sparse_gaussian(n_samples={n})", (depth,)),
            5,
            SHARERS,
        )
        for n, depth in ((200, 100), (1000, 100), (10000, 50), (50000, 50))
    },
    "n=2000, m=1000, p=1500, T=100": (
        Task(
            "sparse_gaussian(n_samples=2000, n_features=1000, n_components=1500,"
            " n_nonzero_coefs=10, perturbation=0.005)",
            (100,),
        ),
        3,
        ("pudle", "torch autograd"),
    ),
    "exact, n=10000, m=50, p=100": (
        Task("sparse_gaussian(n_samples=10000)", (100,), exact=True),
        5,
        ("active_set", "active_set, warm", "SPAMS"),
    ),
}

ROWS = ROWS_ON_ONE_CORE if N_CORES == 1 else ROWS_ON_ALL_CORES

TURNS = [
    pytest.param(row, contender, turn, id=f"row {number}-{contender}-{turn}")
    for number, (row, (_, turns, contenders)) in enumerate(ROWS.items(), 1)
    for turn in range(turns)
    for contender in contenders
]


@pytest.fixture(scope="module", autouse=True)
def cores():
    """Run on so many cores, where the system allows it: JAX has no other setting for its number of
    threads.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(N_CORES)
    if not hasattr(os, "sched_setaffinity"):
        yield
    else:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(before)[:N_CORES])
        yield
        os.sched_setaffinity(0, before)
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def prepared():
    """Works of the row that is being measured, by contender, and the row's gradients by plain torch
    in float64.
    """
    works, rows = {}, []

    def prepare(row, contender):
        task = ROWS[row][0]
        if rows != [row]:
            works.clear()
            rows[:] = [row]
            works["truth"] = truth_of(task)
        if contender not in works and contender == "torch.compile":
            try:
                CONTENDERS[contender](task, torch.float32)()
            except RuntimeError as error:
                pytest.skip(f"torch.compile does not work here: {str(error).splitlines()[0]}")
        if contender not in works:
            if checked(task, contender):
                gradients = CONTENDERS[contender](task, torch.float64)()
                check(gradients, works["truth"], torch.float64, task.exact)
            works[contender] = CONTENDERS[contender](task, torch.float32)
            if not task.sweep:
                # Whatever compiles does so now. A sweep is measured when the rows before it have
                # made everything compile.
                works[contender]()
        return works[contender], works["truth"]

    return prepare


def truth_of(task):
    if task.exact:
        return [pudle.reference(task.problem(torch.float64)).gradient]
    return CONTENDERS["torch autograd"](task, torch.float64)()


def checked(task, contender):
    return contender not in (BOUND, "pudle" if task.exact else BOUND)


def check(gradients, truth, dtype, exact=False):
    agreement = (EXACT_AGREEMENT if exact else AGREEMENT)[dtype]
    errors = [
        float((one.double() - true).norm() / true.norm())
        for one, true in zip(gradients, truth, strict=True)
    ]
    wrong = [error for error in errors if not error <= agreement]
    assert not wrong, (
        f"{dtype}: {len(wrong)} of {len(errors)} gradients differ from the truth by more than"
        f" {agreement}, by up to {max(wrong):.1e}"
    )


@pytest.fixture(scope="module")
def times(request):
    """Seconds by row and contender, printed as a table at the end."""
    seconds = {}
    yield seconds
    present = [name for name in CONTENDERS if any(name in row for row in seconds.values())]
    clock = "processor time on one core" if N_CORES == 1 else f"wall time on {N_CORES} cores"
    lines = [
        (
            f"Seconds of {clock}, float32, least to greatest; in parentheses the least by that of"
            " the row's first.\n"
        ),
        f"| work | {' | '.join(present)} |",
        "|---" * (len(present) + 1) + "|",
    ]
    for row, by_contender in seconds.items():
        own = min(next(iter(by_contender.values())))
        cells = [
            (
                f"{min(each):.3f} to {max(each):.3f} ({min(each) / own:.2f})"
                if (each := by_contender.get(name))
                else ""
            )
            for name in present
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print("\n", *lines, sep="\n")


@pytest.mark.filterwarnings("ignore")  # of torch.compile, about itself
@pytest.mark.benchmark(group="peers")
@pytest.mark.parametrize("row, contender, turn", TURNS)
def test_gradient(benchmark, prepared, times, row, contender, turn):
    work, truth = prepared(row, contender)
    gradients = benchmark.pedantic(work, rounds=1)
    task = ROWS[row][0]
    if checked(task, contender):
        check(gradients, truth, torch.float32, task.exact)
    times.setdefault(row, {}).setdefault(contender, []).append(benchmark.stats.stats.min)


SMALL = "sparse_gaussian(n_samples=20, n_features=10, n_components=16, n_nonzero_coefs=2)"


@pytest.mark.parametrize(
    "contender, task",
    [
        *((name, Task(SMALL, (12,))) for name in UNROLLERS if name not in (BOUND, "torch.compile")),
        *((name, Task(SMALL, (12,), exact=True)) for name in SOLVERS[1:]),
        *((name, Task(SMALL, (12,), window=3)) for name in TRUNCATED),
        *((name, Task(SMALL, (1, 2, 7), ("lasso", "reconstruction"))) for name in SWEEPERS),
    ],
)
def test_contenders_agree_on_a_small_problem(dtype, contender, task):
    """Keep the programs from rotting between the runs of `make peers`; torch.compile would take
    half a minute.
    """
    check(CONTENDERS[contender](task, dtype)(), truth_of(task), dtype, task.exact)
