"""Compiled kernels against automatic differentiation, and when they take the place of the torch
path.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from examples import sparse_arrays
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from paths import ROOT
from threadpoolctl import threadpool_info

import pudle
from pudle import kernel_choice
from pudle.algorithms import Fista, Ista, gram_layers, kernels, unrolling
from pudle.algorithms.thresholding import Decaying, Hard, Soft
from pudle.estimators.truncated import Truncated
from pudle.problems.l1 import LOSSES
from pudle.references.records import exactly

pytest.importorskip("numba")

#: Required of float64 and float32, relative to the gradient's or the codes' norm.
DOUBLE, SINGLE = 1e-11, 1e-5


@pytest.fixture(autouse=True)
def numba_chosen(monkeypatch):
    monkeypatch.setenv(kernel_choice.VARIABLE, "numba")


def relative(actual, expected):
    """Return the relative error; an expected zero must be met exactly."""
    norm = torch.linalg.norm(expected)
    return float(torch.linalg.norm(actual - expected) / norm) if norm else float(actual.abs().max())


def by_autograd(compute):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(kernel_choice.VARIABLE, "torch")
        return compute()


def draw_problem(
    seed,
    n,
    m,
    p,
    *,
    scale=1.0,
    coherence=0.0,
    penalty=0.1,
    dtype=torch.float64,
    zero_row=False,
    **options,
):
    """Return a problem with unit atoms whose common part is `coherence`; the penalty is relative to
    the largest product.
    """
    random = torch.Generator().manual_seed(seed)
    dictionary = torch.randn(m, p, generator=random, dtype=torch.float64)
    dictionary = (1 - coherence) * dictionary + coherence * dictionary[:, :1]
    dictionary /= dictionary.norm(dim=0)
    observations = scale * torch.randn(n, m, generator=random, dtype=torch.float64)
    if zero_row:
        observations[0] = 0
    largest = float((observations @ dictionary).abs().max()) or 1.0
    tensors = {"observations": observations.to(dtype), "dictionary": dictionary.to(dtype)}
    return pudle.SparseCoding(**tensors, penalty=penalty * largest, **options)


RULES = [Soft(), Decaying(decay=0.9), Hard()]
SIZES = {"n": st.integers(1, 7), "m": st.integers(1, 8), "p": st.integers(1, 24)}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.fixed_dictionaries(SIZES),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    coherence=st.sampled_from([0.0, 0.0, 0.5, 0.9]),
    penalty=st.sampled_from([1e-3, 0.1, 0.5, 2.0]),
    options=st.fixed_dictionaries(
        {
            "loss": st.sampled_from(["lasso", "reconstruction"]),
            "nonnegative": st.booleans(),
            "l2_penalty": st.sampled_from([0.0, 0.1]),
            "zero_row": st.booleans(),
        }
    ),
    make=st.sampled_from([Ista, Fista]),
    rule=st.sampled_from(RULES),
    depths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    window=st.sampled_from([None, 1, 3, 100]),
    warm=st.booleans(),
    dense=st.sampled_from([0.0, 0.35, 1.1]),
)
def test_gradients_of_any_problem(
    seed, sizes, scale, coherence, penalty, options, make, rule, depths, window, warm, dense
):
    """The share of active entries at which dense products end is drawn too: all, most or no layers
    are dense.
    """
    problem = draw_problem(
        seed, **sizes, scale=scale, coherence=coherence, penalty=penalty, **options
    )
    initial = scale * torch.randn(
        problem.code_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    algorithm = make(thresholding=rule, initial=initial * (initial > 0) if warm else None)
    expected = by_autograd(
        lambda: list(unrolling.unrolled_gradients(problem, algorithm, depths, window))
    )
    # A decision at the threshold itself is rounding's: autograd at a neighboring penalty must keep
    # the supports.
    nearby = dataclasses.replace(problem, penalty=problem.penalty * (1 + 1e-12))
    moved = by_autograd(
        lambda: list(unrolling.unrolled_gradients(nearby, algorithm, depths, window))
    )
    assume(all(relative(a, b) < DOUBLE for (a, _), (b, _) in zip(moved, expected, strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gram_layers, "DENSE", dense)
        actual = list(unrolling.unrolled_gradients(problem, algorithm, depths, window))
    for (gradient, codes), (true_gradient, true_codes) in zip(actual, expected, strict=True):
        assert relative(gradient, true_gradient) < DOUBLE
        assert relative(codes, true_codes) < DOUBLE


CASES = [
    (Ista(), {}),
    (Ista(), {"nonnegative": True}),
    (Ista(thresholding=Decaying(decay=0.98)), {"l2_penalty": 0.1}),
    (Ista(thresholding=Hard(threshold=0.15)), {}),
    (Fista(), {"l2_penalty": 0.1}),
    (Fista(restart=True), {}),
]


@pytest.fixture
def no_fallback(monkeypatch):
    """Let a gradient that falls back to the torch path fail, so that the kernels themselves are
    tested.
    """

    def refuse(*_):
        raise AssertionError("the torch path was taken")

    monkeypatch.setattr(unrolling, "_recorded_gradients", refuse)
    monkeypatch.setattr(unrolling, "_recorded_gradient", refuse)


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, DOUBLE), (torch.float32, SINGLE)], ids=["double", "single"]
)
@pytest.mark.parametrize("loss", ["lasso", "reconstruction"])
@pytest.mark.parametrize("algorithm, options", CASES, ids=str)
def test_every_door(algorithm, options, loss, dtype, tolerance, request):
    """Deep enough for sparse layers; in float64 more samples than a chunk has.

    In float32 there are fewer: of 260 samples' entries in 30 layers, 780,000, one or two lie so
    near the threshold that rounding decides whether they are zero, here or in autograd.
    """
    n = 260 if dtype == torch.float64 else 40
    problem = pudle.make_dataset(f"sparse_gaussian(n_samples={n})").problem(loss=loss, dtype=dtype)
    problem = dataclasses.replace(problem, **options)
    depths, weights = [30, 0, 1, 17], torch.linspace(-1, 1, 100 * n, dtype=dtype).reshape(n, 100)

    def compute():
        gradients = [
            g
            for window in (None, 5)
            for g, _ in unrolling.unrolled_gradients(problem, algorithm, depths, window)
        ]
        windows = [
            estimate.gradient
            for _, estimate in Truncated.sweep_windows(problem, algorithm, 30, [1, 4, 29, 50])
        ]
        states = algorithm.run(problem, 30, keep=range(25, 31)).states
        middle, _ = unrolling.unrolled_gradient(problem, algorithm, states[27], 3)
        accumulated = list(
            unrolling.reverse_accumulation(
                problem, algorithm, [states[t] for t in range(25, 31)], weights
            )
        )
        checkpointed = (
            pudle.make_estimator("checkpointed").estimate(problem, algorithm, 30).gradient
        )
        return [
            states[30].codes,
            states[30].point,
            *gradients,
            *windows,
            middle,
            *accumulated,
            checkpointed,
        ]

    expected = by_autograd(compute)
    request.getfixturevalue("no_fallback")
    for actual, true in zip(compute(), expected, strict=True):
        assert relative(actual, true) < tolerance


def test_six_hundred_layers(no_fallback):
    """Depths at which codes have converged to the last bit, and supports agree for long."""
    problem = pudle.make_dataset("sparse_gaussian(n_samples=40)").problem(loss="reconstruction")
    ((actual, _),) = unrolling.unrolled_gradients(problem, Ista(), [600])
    assert relative(actual, _plain_autograd(problem, 600)) < DOUBLE


def _plain_autograd(problem, depth):
    """Differentiate the layers as they stand in this module, independent of the package's own."""
    theta = problem.theta.clone().requires_grad_()
    step, codes = Ista().step_size(problem), problem.initial_codes()
    for _ in range(depth):
        values = codes - step * (codes @ theta.T - problem.observations) @ theta
        codes = torch.sign(values) * torch.relu(values.abs() - step * problem.penalty)
    loss = 0.5 * (codes @ theta.T - problem.observations).square().sum() / len(codes)
    return torch.autograd.grad(loss, theta)[0]


@pytest.mark.parametrize(
    "name", ["backprop", "truncated(window=5)", "one_step", "alternating", "checkpointed"]
)
def test_order_of_samples(name):
    problem = pudle.make_dataset("sparse_gaussian(n_samples=600)").problem()
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    mixed = dataclasses.replace(
        problem, observations=problem.observations[order], generating_codes=None
    )
    first, second = (
        pudle.make_estimator(name).estimate(one, Ista(step=0.2), 40) for one in (problem, mixed)
    )
    assert relative(second.gradient, first.gradient) < 1e-12
    assert relative(second.codes, first.codes[order]) < 1e-12


def test_same_bits_for_any_number_of_threads():
    problem = pudle.make_dataset("sparse_gaussian(n_samples=600)").problem()
    digests, before = set(), torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            estimate = pudle.make_estimator("backprop").estimate(problem, Fista(step=0.2), 40)
            assert torch.get_num_threads() == threads
            digests.add(
                hashlib.sha256(
                    estimate.gradient.numpy().tobytes() + estimate.codes.numpy().tobytes()
                ).hexdigest()
            )
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


STEP = """
import pudle, torch
problem = pudle.make_dataset("sparse_gaussian(n_features=200, n_components=300, n_samples=9)").problem()
print(problem.lipschitz_constant.hex(), float(pudle.Fista().run(problem, 30).codes.sum()).hex())
"""


def test_same_step_for_any_number_of_threads():
    said = [
        python(STEP, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)).stdout
        for count in ("1", "2")
    ]
    assert said[0] == said[1] != ""


def test_threads_of_python_leave_the_number_of_threads_alone():
    problem, before = draw_problem(0, 300, 10, 20), torch.get_num_threads()
    torch.set_num_threads(2)
    libraries = [each["num_threads"] for each in threadpool_info()]
    try:
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda _: list(unrolling.unrolled_gradients(problem, Ista(), [30])), range(40)
                )
            )
        assert (
            torch.get_num_threads() == 2
            and [each["num_threads"] for each in threadpool_info()] == libraries
        )
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape, penalty", [((40, 20), 0.1), ((20, 20), 0.2), ((10, 20), 0.3)])
def test_restarts_do_not_depend_on_rounding(shape, penalty):
    """Long after convergence the momentum is rounding alone: no layer restarts for it, in whatever
    order sums are taken.
    """
    p, m = shape
    arrays = {
        name: torch.tensor(array) for name, array in sparse_arrays(1, n=60, m=m, p=p, s=3).items()
    }
    problem = pudle.SparseCoding(**arrays, penalty=penalty, loss="reconstruction")
    for depth, window in ((150, None), (300, 3), (600, 10)):
        found = functools.partial(
            unrolling.unrolled_gradients, problem, Fista(restart=True), [depth], window
        )
        (gradient, _), (expected, _) = next(found()), by_autograd(lambda: next(found()))  # noqa: B023
        assert relative(gradient, expected) < DOUBLE


def test_divergence_stays_divergence():
    """A parameter that has diverged gives what autograd gives: numbers that are not finite."""
    problem = draw_problem(0, 4, 5, 8)
    problem.lipschitz_constant  # noqa: B018  the copies keep it
    for value in (torch.nan, torch.inf, 1e200):
        broken = problem.with_theta(problem.theta * value)
        for name in ("backprop", "truncated(window=2)", "checkpointed"):
            assert (
                not pudle.make_estimator(name).estimate(broken, Ista(), 6).gradient.isfinite().all()
            )


@pytest.mark.parametrize("rule", [*RULES, Hard(threshold=1e39)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_is_kept_as_by_autograd(rule, dtype):
    """Zero times infinity is NaN, which a product that leaves zeros out would miss."""
    problem = draw_problem(0, 4, 5, 8, dtype=dtype)
    problem.lipschitz_constant  # noqa: B018  the copies keep it
    start = torch.zeros(4, 8, dtype=dtype)
    for value in (0.0, torch.nan, torch.inf, -torch.inf):
        dictionary, initial = problem.theta.clone(), start.clone()
        dictionary[2, 3] += value
        initial[1, 2] = value
        for one, algorithm in (
            (problem.with_theta(dictionary), Ista(thresholding=rule)),
            (problem, Ista(thresholding=rule, initial=initial)),
        ):
            here, there = (
                path(lambda: algorithm.run(one, 6).codes)  # noqa: B023
                for path in (lambda run: run(), by_autograd)
            )
            assert torch.allclose(here, there, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_cancellation_is_noticed_in_any_unit(scale):
    """Squares of small numbers are zero in single precision: norms must not be taken there."""
    arrays = sparse_arrays(0, n=50, m=50, p=100, s=5)
    tensors = {
        "observations": scale * arrays["observations"],
        "dictionary": arrays["generating_dictionary"],
    }
    problem = pudle.SparseCoding(
        **{name: torch.tensor(value, dtype=torch.float32) for name, value in tensors.items()},
        penalty=1e-4 * scale,
        loss="reconstruction",
    )
    (gradient, _), (expected, _) = (
        next(unrolling.unrolled_gradients(one, Fista(step=0.15), [300]))
        for one in (problem, exactly(problem))
    )
    assert relative(gradient.double(), expected) < SINGLE


def test_chunks_do_not_matter(monkeypatch):
    """Where many layers are dense, few samples at a time bound the memory."""
    problem = draw_problem(0, 50, 12, 20, penalty=1e-4)
    whole = pudle.make_estimator("backprop").estimate(problem, Fista(), 30).gradient
    monkeypatch.setattr(gram_layers, "CHUNK_BYTES", 7 * 30 * 20 * 16)
    assert (
        relative(pudle.make_estimator("backprop").estimate(problem, Fista(), 30).gradient, whole)
        < 1e-12
    )


def test_cancellation_takes_the_torch_path(monkeypatch):
    """Where the terms of the Gram form cancel, the result is autograd's own, to the bit."""
    problem = draw_problem(0, 5, 6, 12)
    monkeypatch.setattr(kernels, "LARGEST_CANCELLATION", 0.0)
    for spec in ("backprop", "truncated(window=3)"):
        estimator = pudle.make_estimator(spec)
        expected = by_autograd(
            lambda estimator=estimator: estimator.estimate(problem, Ista(), 3).gradient
        )
        assert relative(estimator.estimate(problem, Ista(), 3).gradient, expected) < 1e-14


def test_single_precision_that_cancels_is_computed_in_double(request):
    """Near a minimum of the loss a gradient's terms cancel: in single precision autograd itself has
    two digits left here.
    """
    shape = "n_samples=40, n_features=100, n_components=150, n_nonzero_coefs=3"
    problem = pudle.make_dataset(f"sparse_gaussian({shape})").problem(
        loss="reconstruction", dtype=torch.float32
    )
    problem = dataclasses.replace(problem, dictionary=problem.generating_dictionary)
    algorithm = Ista(step=0.2, thresholding=Decaying(decay=0.95))
    (rough, _), (expected, _) = (
        by_autograd(lambda one=one: next(unrolling.unrolled_gradients(one, algorithm, [100])))
        for one in (problem, exactly(problem))
    )
    assert relative(rough.double(), expected) > 1e-3
    request.getfixturevalue("no_fallback")
    gradient, codes = next(unrolling.unrolled_gradients(problem, algorithm, [100]))
    assert gradient.dtype == codes.dtype == torch.float32
    assert relative(gradient.double(), expected) < 1e-6


@pytest.mark.parametrize("algorithm, options", CASES, ids=str)
def test_every_door_leads_to_double_precision(algorithm, options, monkeypatch, request):
    """With a limit that single precision cannot keep, every gradient is as near to autograd's as a
    rounded number can be.
    """
    problem = draw_problem(0, 5, 6, 12, loss="reconstruction", dtype=torch.float32, **options)
    weights = torch.linspace(-1, 1, 60).reshape(5, 12)

    def compute(problem):
        dtype = problem.theta.dtype
        start = algorithm.start(problem)
        gradients = [
            g
            for window in (None, 9)
            for g, _ in unrolling.unrolled_gradients(problem, algorithm, [9, 4], window)
        ]
        windows = [
            gradient for gradient, _ in unrolling.window_gradients(problem, algorithm, 6, [6, 20])
        ]
        whole, codes = unrolling.unrolled_gradient(problem, algorithm, start, 8)
        adjoints = unrolling.Adjoints(torch.zeros_like(problem.theta), {"codes": weights.to(dtype)})
        back = unrolling.pull_back(
            problem, algorithm, start, 7, algorithm.step_size(problem), adjoints
        )
        return [*gradients, *windows, whole, codes, back.theta]

    expected = by_autograd(lambda: compute(exactly(problem)))
    monkeypatch.setattr(kernels, "LARGEST_CANCELLATION", 1e-5)
    request.getfixturevalue("no_fallback")
    monkeypatch.setattr(
        unrolling, "recorded_pull_back", lambda *_: pytest.fail("the torch path was taken")
    )
    for actual, true in zip(compute(problem), expected, strict=True):
        assert actual.dtype == torch.float32 and relative(actual.double(), true) < 1e-6


class Mine(pudle.SparseCoding):
    pass


class MyIsta(Ista):
    pass


class MySoft(Soft):
    pass


def test_what_the_kernels_apply_to(monkeypatch):
    problem = draw_problem(0, 3, 4, 6)
    fields = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}

    def applies(problem=problem, algorithm=None):
        algorithm = algorithm or Ista()
        return kernels.apply(problem, algorithm, algorithm.start(problem))

    assert (
        applies()
        and applies(problem.with_theta(problem.theta * 2))
        and applies(algorithm=Fista(restart=True))
    )
    assert all(applies(algorithm=Ista(thresholding=rule)) for rule in RULES)
    assert not applies(Mine(**fields))
    assert not applies(algorithm=MyIsta()) and not applies(algorithm=Ista(thresholding=MySoft()))
    # The Gram matrix of many more atoms than features takes longer than all products with the
    # dictionary.
    assert applies(draw_problem(0, 3, 2, 16)) and not applies(draw_problem(0, 3, 2, 17))
    monkeypatch.setitem(LOSSES, "mine", LOSSES["lasso"])
    assert not applies(dataclasses.replace(problem, loss="mine"))
    monkeypatch.setitem(LOSSES, "lasso", lambda problem, codes: codes.sum())
    assert not applies()


def test_run_is_recorded_where_a_gradient_is_asked_for():
    problem = draw_problem(0, 3, 4, 6)
    assert (
        Ista()
        .run(problem.with_samples(observations=problem.observations.clone().requires_grad_()), 3)
        .codes.requires_grad
    )
    theta = problem.theta.clone().requires_grad_()
    assert Ista().run(problem.with_theta(theta), 3).codes.requires_grad
    with torch.no_grad():
        assert not Ista().run(problem.with_theta(theta), 3).codes.requires_grad


def test_transformations_take_the_torch_path():
    problem = draw_problem(0, 3, 4, 6)
    problem.lipschitz_constant  # noqa: B018  the copies keep it

    def codes(theta):
        return Ista().run(problem.with_theta(theta), 5).codes

    direction = torch.ones_like(problem.theta)
    _, tangent = torch.func.jvp(codes, (problem.theta,), (direction,))
    batched = torch.func.vmap(codes)(torch.stack([problem.theta, 2 * problem.theta]))
    step = 1e-6
    quotient = (
        codes(problem.theta + step * direction) - codes(problem.theta - step * direction)
    ) / (2 * step)
    assert relative(tangent, quotient) < 1e-7
    assert relative(batched[0], codes(problem.theta)) < DOUBLE


def python(code, arguments=(), **variables):
    environment = {
        name: value for name, value in os.environ.items() if name != kernel_choice.VARIABLE
    } | variables
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_choice(monkeypatch):
    monkeypatch.setenv(kernel_choice.VARIABLE, "torch")
    assert kernel_choice.choice() == "torch" == kernel_choice.description()
    monkeypatch.setenv(kernel_choice.VARIABLE, "")
    assert kernel_choice.choice() == "numba" and kernel_choice.description().startswith("numba ")
    monkeypatch.setenv(kernel_choice.VARIABLE, "cuda")
    with pytest.raises(
        pudle.InvalidArgument, match="PUDLE_KERNELS='cuda' is unknown: set it to numba or torch"
    ):
        kernel_choice.choice()


def test_unknown_choice_ends_the_program_in_one_line(tmp_path):
    command = "import sys; from pudle.cli import main; sys.exit(main())"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            command,
            "run",
            "--scores-only",
            "--home",
            str(tmp_path),
            "--case",
            "sparse*",
        ],
        env=os.environ | {kernel_choice.VARIABLE: "cuda"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "PUDLE_KERNELS='cuda' is unknown" in done.stderr


def test_import_leaves_numba_alone():
    done = python(
        "import sys, pudle.algorithms.unrolling, pudle.estimator; sys.exit('numba' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr


PREPARED = """
import torch, pudle
from pudle.algorithms import kernels
dtypes = [torch.{}]
kernels.prepare(dtypes)
from pudle.algorithms.compiled import restrict, run_layers
compiled = len(run_layers.signatures)
assert compiled == len(restrict.signatures) == (1 if dtypes == [torch.float64] else 2)
for dtype in dtypes:
    problem = pudle.make_dataset("sparse_gaussian(n_samples=9)").problem(dtype=dtype)
    for name in ("backprop", "checkpointed", "truncated(window=3)"):
        pudle.make_estimator(name).estimate(problem, pudle.Fista(restart=True), 30)
        warm = torch.ones(problem.code_shape[::-1], dtype=dtype).T
        pudle.make_estimator(name).estimate(problem, pudle.Fista(restart=True, initial=warm), 30)
kernels.LARGEST_CANCELLATION = 1e-5
pudle.make_estimator("backprop").estimate(problem, pudle.Fista(restart=True), 30)
assert len(run_layers.signatures) == len(restrict.signatures) == compiled
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prepare_leaves_nothing_to_compile(dtype):
    """A precision that no case has is not compiled, and takes no time of a first run."""
    done = python(PREPARED.format(dtype))
    assert done.returncode == 0, done.stderr


DAMAGED = """
import pathlib, shutil, sys
from numba.core import caching
source = pathlib.Path(sys.argv[1], "mine.py")
source.write_text("from pudle.kernel_choice import compiled\\n@compiled()\\ndef double(x):\\n    return 2 * x\\n")
sys.path.insert(0, sys.argv[1])
import importlib, mine
assert mine.double(2) == 4 and mine.double.stats.cache_misses
for ending in ("nbi", "nbc"):
    for content in (b"", b"no such thing", None):
        (path,) = source.parent.glob(f"__pycache__/*.{ending}")
        path.write_bytes(path.read_bytes()[:-20] if content is None else content)
        for misses in (1, 0):
            importlib.reload(mine)
            assert mine.double(2) == 4 and len(mine.double.stats.cache_misses) == misses, (ending, content, misses)
"""


def test_a_damaged_cache_is_compiled_anew(tmp_path):
    done = python(DAMAGED, arguments=[str(tmp_path)])
    assert done.returncode == 0, done.stderr


SLOW_SAVE = """
import sys, time
from numba.core import caching
original = caching.IndexDataCacheFile._save_index
def slow(self, overloads):
    time.sleep(1)
    original(self, overloads)
caching.IndexDataCacheFile._save_index = slow
sys.path.insert(0, sys.argv[1])
import mine
print(mine.double(eval(sys.argv[2])))
"""


def test_two_processes_that_compile_at_once_do_not_take_each_others_code(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from pudle.kernel_choice import compiled\n@compiled()\ndef double(x):\n    return 2 * x\n"
    )
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(
            lambda value: python(SLOW_SAVE, arguments=[str(tmp_path), value]), ["2", "2.5"]
        )
    assert [each.stdout for each in done] == ["4\n", "5.0\n"]
    assert len(list(tmp_path.glob("__pycache__/*.nbc"))) == 2


def test_without_a_folder_for_the_cache():
    """Numba refuses to cache where it can write nowhere; the kernels are then compiled for this
    process.
    """
    code = (
        "from numba.core import caching; caching.CacheImpl._locator_classes = []; from"
        " pudle.algorithms.compiled import run_layers; from pudle.problems.compiled import"
        " solve_by_cholesky; assert {type(kernel._cache).__name__ for kernel in (run_layers,"
        " solve_by_cholesky)} == {'NullCache'}"
    )
    done = python(code)
    assert done.returncode == 0 and not done.stderr


MEMORY = """
import os, torch, pudle
import pudle.algorithms.kernels
from peak import peak_growth

torch.set_num_threads(1)
pudle.algorithms.kernels.prepare()
problem = pudle.make_dataset("sparse_gaussian(n_samples=3000)").problem(dtype=torch.float32)
estimator = pudle.make_estimator("backprop")
for choice in ("numba", "torch"):
    os.environ["PUDLE_KERNELS"] = choice
    estimator.estimate(problem, pudle.Ista(step=0.2), 3)
    print(peak_growth(lambda: estimator.estimate(problem, pudle.Ista(step=0.2), 100)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux has it")
def test_backprop_needs_a_tenth_of_the_memory():
    done = python(MEMORY, PYTHONPATH=str(ROOT / "tests"))
    compiled, recorded = (int(line) for line in done.stdout.split())
    assert recorded > 2**17, "autograd keeps all layers: the comparison means something"
    assert compiled <= recorded / 10
