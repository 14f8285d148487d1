"""Blocks of samples in threads: the same bits for any number, and nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.problems.small_problems import sparse_arrays
from support.processes.live import heed_interrupts
from threadpoolctl import threadpool_info
from torch.utils._python_dispatch import TorchDispatchMode

import pudle
from pudle import threads
from pudle.algorithms import ActiveSet, CoordinateDescent, Fista, Ista
from pudle.algorithms.thresholding import Decaying, Hard
from pudle.threads import block_threads, run_blocks, single_thread, torch_threads
from pudle.workers import Copy

#: Estimators whose computations come in blocks, and algorithms for them.
LAYERED = ("alternating", "analytic", "backprop", "checkpointed", "truncated(window=3)")
CASES = [
    *((name, Ista()) for name in LAYERED),
    ("backprop", Fista(thresholding=Decaying(decay=0.9))),
    ("backprop", Fista(thresholding=Hard(threshold=0.3))),
    *((name, solver) for name in ("analytic", "polished") for solver in (ActiveSet(),)),
    ("analytic", CoordinateDescent()),
]


@pytest.fixture
def cores(monkeypatch):
    """Let seven threads share even the smallest work, whatever this machine has."""
    monkeypatch.setattr(threads, "number_of_cores", lambda: 7)
    monkeypatch.setattr(threads, "LEAST_SHARE", 1)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def problem_of(n, dtype=torch.float32, penalty=0.3):
    arrays = sparse_arrays(0, n=n, m=20, p=30, s=3)
    return pudle.SparseCoding(
        observations=torch.tensor(arrays["observations"]).to(dtype),
        dictionary=torch.tensor(arrays["generating_dictionary"]).to(dtype),
        penalty=penalty,
    )


def bits(tensors):
    return b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)


def estimated(problem, name, algorithm, depths=(1, 5, 20)):
    """Return the bits of a sweep, and which threads computed."""
    fresh = problem.with_theta(problem.theta.clone())
    sweep = pudle.make_estimator(name).sweep(fresh, algorithm, depths)
    return bits(tensor for each in sweep for tensor in (each.gradient, each.codes))


@pytest.mark.parametrize("name, algorithm", CASES, ids=str)
@pytest.mark.parametrize("n", [250, 251, 1501])
def test_bits_do_not_depend_on_the_number_of_threads(cores, monkeypatch, name, algorithm, n, dtype):
    """Nor where blocks end in the middle of another, and where they are computed out of order."""
    monkeypatch.setattr("pudle.algorithms.kernels.LEAST_WORK", -1e9)
    penalty = 0.3
    if isinstance(algorithm, ActiveSet | CoordinateDescent):
        penalty = torch.linspace(0.2, 0.4, 30, dtype=dtype)
    problem, results = problem_of(n, dtype, penalty), set()
    for number in (1, 2, 3, 7):
        torch.set_num_threads(number)
        results.add(estimated(problem, name, algorithm))
        assert torch.get_num_threads() == number
    assert len(results) == 1


@pytest.mark.parametrize("number", [1, 2, 7])
def test_blocks_are_added_in_their_order_by_all_threads(cores, number):
    """However long each takes; and while they run, there are so many threads and no more."""
    added, computing = [], set()

    def compute(block):
        computing.add(threading.current_thread())
        time.sleep(0.01 * (3 - block % 3))
        return block

    before = threading.active_count()
    with block_threads(number):
        run_blocks(compute, range(12), 1e9, added.append)
    assert added == [*range(12)]
    assert len(computing) == number and threading.active_count() == before


def test_work_that_is_too_small_takes_one_thread(monkeypatch):
    monkeypatch.setattr(threads, "number_of_cores", lambda: 7)
    computing = []
    for work in (2 * threads.LEAST_SHARE - 1, 2 * threads.LEAST_SHARE):
        with block_threads(7):
            run_blocks(
                lambda _: time.sleep(0.01) or computing.append(threading.get_ident()),
                range(6),
                work,
            )
    assert len({*computing[:6]}) == 1 and len({*computing[6:]}) == 2


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, MemoryError])
def test_the_error_of_the_first_block_that_fails_reaches_the_caller(cores, kind):
    begun, added, before = [], [], threading.active_count()

    def compute(rows):
        begun.append(rows.start)
        if rows.start >= 500:
            # The later one fails first.
            time.sleep(0.05 if rows.start == 500 else 0.01)
            raise kind(f"{rows.start}")
        return rows.start

    with block_threads(3), pytest.raises(kind, match="^500") as caught:
        run_blocks(compute, threads.blocks_of(9999, 250), 1e9, added.append)
    assert caught.value.__notes__ == ["raised in samples 500 to 749"]
    assert added == [0, 250] and len(begun) <= 5 and threading.active_count() == before


def test_an_interruption_of_the_last_wait_leaves_no_thread(cores, monkeypatch):
    join, interrupted, before = threading.Thread.join, [], threading.active_count()
    all_begun = threading.Barrier(3)

    def join_interrupted_once(thread, timeout=None):
        if not interrupted:
            interrupted.append(thread)
            raise KeyboardInterrupt
        join(thread, timeout)

    def compute(_):
        all_begun.wait(30)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.1)

    monkeypatch.setattr(threading.Thread, "join", join_interrupted_once)
    with block_threads(3), pytest.raises(KeyboardInterrupt):
        run_blocks(compute, range(3), 1e9)
    assert interrupted and threading.active_count() == before


def test_settings_are_set_back_after_an_error(cores):
    torch.set_num_threads(3)
    products = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    for context in (single_thread(), torch_threads(1), torch_threads(5), block_threads(2)):
        with pytest.raises(ZeroDivisionError), context:
            run_blocks(lambda _: 1 / 0, range(3), 1e9)
    estimator = pudle.make_estimator("backprop")
    with pytest.raises(pudle.InvalidArgument):
        estimator.estimate(problem_of(20), Ista(step=1e9), 3)
    after = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    assert torch.get_num_threads() == 3 and after == products


def test_between_two_estimates_of_a_sweep_torch_has_the_callers_threads(cores):
    torch.set_num_threads(3)
    for _ in pudle.make_estimator("conjugate_gradient").sweep(problem_of(20), Ista(), [1, 2, 3]):
        assert torch.get_num_threads() == 3


class ThreadsOfOperations(TorchDispatchMode):
    """Records the operations that fill tensors of at least so many entries in several threads."""

    def __init__(self, entries):
        super().__init__()
        self.entries, self.shared = entries, []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        is_view = any(value.alias_info is not None for value in function._schema.returns)
        tensors = [tensor for tensor in (*arguments, result) if isinstance(tensor, torch.Tensor)]
        largest = max((tensor.numel() for tensor in tensors), default=0)
        if largest >= self.entries and not is_view and torch.get_num_threads() > 1:
            self.shared.append(str(function))
        return result


# Polishing has operations of its own, and what coordinate descent has not finished is counted after
# all blocks.
@pytest.mark.parametrize("name, algorithm", CASES[:-2], ids=str)
def test_no_thread_of_torch_works_between_blocks(cores, monkeypatch, name, algorithm):
    """After its part of an operation it waits for more by computing, for milliseconds in which
    blocks need its core.
    """
    monkeypatch.setattr("pudle.algorithms.kernels.LEAST_WORK", -1e9)
    monkeypatch.setattr(threads, "LEAST_ENTRIES", 1)
    torch.set_num_threads(2)
    problem = problem_of(600)
    with ThreadsOfOperations(problem.observations.numel()) as operations:
        pudle.make_estimator(name).estimate(problem, algorithm, 40)
    assert operations.shared == []


def test_torch_takes_one_thread_for_small_tensors_and_the_blocks_number_for_large_ones(cores):
    torch.set_num_threads(4)
    with threads.threads_for(100):
        assert torch.get_num_threads() == 1 and threads.number_of_threads() == 4
        # As in a training, whose estimator meets a large problem.
        with threads.threads_for(10**7):
            assert torch.get_num_threads() == 4
            with single_thread():
                assert torch.get_num_threads() == 1 and threads.number_of_threads() == 4
    with block_threads(2), threads.threads_for(10**7):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4


def test_several_threads_of_python_may_call_at_once(cores):
    """None waits for another, each finds its own setting, and a new one that of the process."""
    torch.set_num_threads(2)
    problem = problem_of(1501)
    expected, meet = estimated(problem, "backprop", Fista()), threading.Barrier(3)

    def call(number):
        if number:
            torch.set_num_threads(number)
            assert torch.get_num_threads() == number
        meet.wait()
        with single_thread():
            # All are within at once.
            meet.wait()
            result = estimated(problem, "backprop", Fista())
            meet.wait()
        return result, torch.get_num_threads()

    with single_thread(), ThreadPoolExecutor(3) as pool:
        results = [*pool.map(call, [None, None, 3])]
    assert {result for result, _ in results} == {expected}
    # Where OpenMP is told to take one, a new thread cannot be told from one that was set to one.
    new = 1 if os.environ.get("OMP_NUM_THREADS") == "1" else 2
    assert [number for _, number in results] == [new, new, 3]
    assert torch.get_num_threads() == 2


def test_a_new_thread_finds_the_number_of_the_process_where_openmp_is_told_none():
    test = f"{__file__}::{test_several_threads_of_python_may_call_at_once.__name__}"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    assert subprocess.run(command, env=environment, stdout=subprocess.PIPE).returncode == 0


def test_a_copy_of_the_process_made_meanwhile_can_compute(cores):
    """The lock of another thread is not one that a copy would wait for."""
    torch.set_num_threads(1)
    problem, begun, end = problem_of(600), threading.Event(), threading.Event()

    def stay():
        with single_thread(), threads._SHARED_LIMITS.lock:
            begun.set()
            end.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    begun.wait()
    try:
        with Copy(lambda: estimated(problem, "backprop", Ista())) as copy:
            outcome = copy.ask(timeout=60.0)
    finally:
        end.set()
        thread.join()
    assert outcome.result == estimated(problem, "backprop", Ista()), outcome.reason


INTERRUPTED = """
import sys, threading, torch, pudle
from pudle import threads
from pudle.algorithms import kernels
threads.number_of_cores = lambda: 3
torch.set_num_threads(3)
kernels.prepare()
problem = pudle.make_dataset("sparse_gaussian(n_samples=4000)").problem(dtype=torch.float32)
estimator = pudle.make_estimator("backprop")
estimator.estimate(problem, pudle.Fista(), 3)
print("ready", flush=True)
try:
    while True:
        estimator.estimate(problem, pudle.Fista(), 100)
except KeyboardInterrupt:
    print(threading.active_count(), torch.get_num_threads(), flush=True)
"""


def test_ctrl_c_ends_all_threads_within_a_second():
    command = [sys.executable, "-c", INTERRUPTED]
    options = {"stdout": subprocess.PIPE, "text": True, "preexec_fn": heed_interrupts}
    with subprocess.Popen(command, **options) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "1 3\n"
        # A machine whose cores others have takes longer.
        assert time.monotonic() - begun < 1 + os.getloadavg()[0]


def test_a_process_takes_no_more_threads_than_it_has_cores(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(64)
    try:
        assert threads.number_of_threads() == threads.number_of_cores() <= (os.cpu_count() or 1)
        monkeypatch.setattr(threads, "granted_processors", lambda: 0.5)
        assert threads.number_of_threads() == 1
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
        monkeypatch.setattr(threads, "granted_processors", lambda: 2.5)
        assert threads.number_of_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "groups, files, expected",
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, float("inf")),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4.0),
        (
            "4:cpu,cpuacct:/docker/1\n1:name=systemd:/",
            {"cpu/docker/1/cpu.cfs_quota_us": "200000", "cpu/docker/1/cpu.cfs_period_us": "1e5"},
            2.0,
        ),
        (
            "4:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            float("inf"),
        ),
        ("0::/a", {}, float("inf")),
    ],
)
def test_limits_of_control_groups_are_read(tmp_path, groups, files, expected):
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = tmp_path / "own"
    own.write_text(groups)
    assert threads.granted_processors(tmp_path / "groups", own) == expected
