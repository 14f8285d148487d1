"""Threads: torch and dense products take one where they are small, and blocks of samples as many as
torch is set to.

Several threads would split the sums within a product, and the last bits would depend on how many
there are. Blocks have a fixed size instead, whatever computes them, and what they give is added in
their order.
"""

import contextlib
import importlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

Block = TypeVar("Block")
Result = TypeVar("Result")

#: Number of samples in a block of dense products. One with compiled layers is smaller, see
#: `pudle.algorithms.passes`.
BLOCK = 1000
#: Least number of multiplications for a thread of its own: it takes as long to start as some
#: hundred thousand of them, and twice this many still gain nothing on a busy machine.
LEAST_SHARE = 2e6
#: Entries of the largest tensor below which several threads do not help torch's own operations:
#: they wait for each other, for a thousand times as long where other work has the cores.
LEAST_ENTRIES = 1 << 18
#: Blocks that may be ahead of the first one that is not added yet, per thread: they bound the
#: memory for what is not added.
AHEAD = 2

#: The number of threads for blocks, where it is not what torch is set to.
_NUMBER: ContextVar[int | None] = ContextVar("number of threads for blocks", default=None)


def number_of_threads() -> int:
    """Return the number of threads that blocks may take here: torch's own number, but no more than
    this process has cores; or what `block_threads` and the limits of torch around this have set.
    """
    chosen = _NUMBER.get()
    return min(torch.get_num_threads(), number_of_cores()) if chosen is None else chosen


def number_of_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and by the limits of
    its control groups, at least one; a part of a core counts as one.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    return max(math.ceil(min(cores, granted_processors())), 1)


@cache
def granted_processors(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float:
    """Return the number of processors that the control groups grant, as those of a container do;
    infinity without a limit.

    They are read once in a process.
    """
    limits = [math.inf]
    for group in _control_groups(root, membership):
        # Version 2 of the groups has one file, version 1 has two; most groups have neither.
        for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            with contextlib.suppress(OSError, ValueError):
                text = " ".join((group / file).read_text() for file in files)
                quota, period = (float(word) for word in text.split())
                limits.append(quota / period if quota > 0 else math.inf)
    return min(limits)


def _control_groups(root: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of the groups that limit this process: its own ones and all above them."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = membership.read_text().splitlines()
    for top in (root, root / "cpu", root / "cpu,cpuacct"):
        yield top
        for line in lines:
            group = top / line.rpartition(":")[2].strip("/")
            while group != top and top in group.parents:
                yield group
                group = group.parent


@contextlib.contextmanager
def block_threads(number: int | None) -> Iterator[None]:
    """Let blocks, and torch in large operations, take so many threads within the context, but at
    least one and no more than this process has cores; None changes nothing.

    Torch's own number is not set here, but by `threads_for`.
    """
    if number is None:
        yield
        return
    token = _NUMBER.set(max(min(number, number_of_cores()), 1))
    try:
        yield
    finally:
        _NUMBER.reset(token)


class _SharedLimits:
    """The limits that all threads of Python share: torch's number of threads in new ones, and that
    of dense products.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        #: Numbers of threads of Python in which torch and dense products are limited, torch's
        #: number in the first of them, and what sets that of dense products back.
        self.torch, self.products, self.number = 0, 0, 1
        self.limit = contextlib.ExitStack()


class _ThreadLimits(threading.local):
    """How often the limits are nested in a thread of Python."""

    torch = 0
    products = 0


_SHARED_LIMITS, _THREAD_LIMITS = _SharedLimits(), _ThreadLimits()


def _forget_other_threads() -> None:
    """Take back, in a copy of this process, the limits of threads that it does not have, and make
    the lock anew; the limits of the thread that was copied stay.
    """
    _SHARED_LIMITS.lock = threading.Lock()
    if _SHARED_LIMITS.products and not _THREAD_LIMITS.products:
        _SHARED_LIMITS.limit.close()
    _SHARED_LIMITS.torch, _SHARED_LIMITS.products = (
        min(_THREAD_LIMITS.torch, 1),
        min(_THREAD_LIMITS.products, 1),
    )


os.register_at_fork(after_in_child=_forget_other_threads)


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch's operations in this thread of Python take so many threads within the context;
    blocks take as many as before.

    Each thread of Python has a setting of its own, which is set back at the end.
    """
    before = torch.get_num_threads() if _THREAD_LIMITS.torch else _enter()
    blocks = _NUMBER.get()
    token = _NUMBER.set(min(before, number_of_cores()) if blocks is None else blocks)
    _THREAD_LIMITS.torch += 1
    try:
        if number != before:
            torch.set_num_threads(number)
        yield
    finally:
        _THREAD_LIMITS.torch -= 1
        if number != before:
            torch.set_num_threads(before)
        if not _THREAD_LIMITS.torch:
            with _SHARED_LIMITS.lock:
                _SHARED_LIMITS.torch -= 1
        _NUMBER.reset(token)


def _enter() -> int:
    """Count this thread of Python, and return torch's number of threads in it.

    In one that has not used torch yet that is the number set last in any thread, which may be a
    limit of another; OpenMP's own number then still is another one, unless it is told to take one.
    """
    with _SHARED_LIMITS.lock:
        limited, _SHARED_LIMITS.torch = _SHARED_LIMITS.torch > 0, _SHARED_LIMITS.torch + 1
        unused = limited and any(
            library.num_threads != 1
            for library in _controller().select(user_api="openmp").lib_controllers
        )
        number = torch.get_num_threads()
        if unused and number == 1:
            number = _SHARED_LIMITS.number
            torch.set_num_threads(number)
        if not limited:
            _SHARED_LIMITS.number = number
        return number


@contextlib.contextmanager
def threads_for(entries: int) -> Iterator[None]:
    """Let torch take one thread, within the context, if its tensors have so few entries that more
    do not help, otherwise as many as blocks.
    """
    with torch_threads(1 if entries < LEAST_ENTRIES else _number_for_torch()):
        yield


def _number_for_torch() -> int:
    chosen = _NUMBER.get()
    return torch.get_num_threads() if chosen is None else chosen


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run torch's operations and dense products in one thread: among several, sums would be split,
    and the last bits depend on their number. Blocks take as many threads as before.

    Products of numpy and scipy take one thread in the whole process, until the last thread of
    Python leaves this context. Meanwhile numpy warns of no overflow and no NaN.
    """
    with torch_threads(1):
        if _THREAD_LIMITS.products:
            yield
            return
        with _SHARED_LIMITS.lock:
            if not _SHARED_LIMITS.products:
                limit = _controller().limit(limits=1, user_api="blas")
                _SHARED_LIMITS.limit.callback(limit.restore_original_limits)
            _SHARED_LIMITS.products += 1
        _THREAD_LIMITS.products += 1
        try:
            # A diverged parameter is no reason for numpy to warn.
            with np.errstate(all="ignore"):
                yield
        finally:
            _THREAD_LIMITS.products -= 1
            with _SHARED_LIMITS.lock:
                _SHARED_LIMITS.products -= 1
                if not _SHARED_LIMITS.products:
                    _SHARED_LIMITS.limit.close()


@cache
def _controller() -> ThreadpoolController:
    """Return the controller that sets the number of threads of libraries loaded here, made once;
    scipy's library of products is loaded first.
    """
    # Compiled code takes its products from scipy's library, which can only be limited once it is
    # loaded.
    importlib.import_module("scipy.linalg.cython_blas")
    return ThreadpoolController()


def run_blocks(
    compute: Callable[[Block], Result],
    blocks: Sequence[Block],
    work: float,
    add: Callable[[Result], object] = lambda _: None,
) -> None:
    """Compute blocks in threads, and add the results in the order of the blocks.

    `work` is the number of multiplications in all blocks: few of them are not shared. Only the
    thread that calls computes and adds then. `compute` runs without gradients being recorded.

    If a block fails, no further one begins, and the error of the first that failed is raised, with
    a note of which it was.
    """
    threads = max(min(number_of_threads(), len(blocks), int(work / LEAST_SHARE)), 1)
    crew = _Crew(compute, blocks, add, threads)
    with single_thread(), block_threads(1):
        helpers = []
        try:
            # A system that starts no more threads has none to spare: those that there are do all.
            with contextlib.suppress(RuntimeError):
                for _ in range(1, threads):
                    thread = threading.Thread(target=crew.help, name="pudle block", daemon=True)
                    thread.start()
                    helpers.append(thread)
            crew.work()
        finally:
            crew.stop()
            _join(helpers)
    crew.raise_failure()


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait for threads; what interrupts that, such as Ctrl-C, is raised when all have ended."""
    interruption: BaseException | None = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:  # noqa: BLE001  # raised below
                interruption = error
    if interruption:
        raise interruption


def blocks_of(samples: int, size: int = BLOCK) -> list[slice]:
    """Return the blocks of so many samples, as slices of at most `size`, in order; of no samples an
    empty one.
    """
    return [slice(first, min(first + size, samples)) for first in range(0, max(samples, 1), size)]


class _Crew(Generic[Block, Result]):
    """Threads that compute blocks."""

    def __init__(
        self,
        compute: Callable[[Block], Result],
        blocks: Sequence[Block],
        add: Callable[[Result], object],
        threads: int,
    ) -> None:
        self.compute, self.blocks, self.add = compute, blocks, add
        self.changed, self.inference = threading.Condition(), torch.is_inference_mode_enabled()
        self.ahead = AHEAD * threads if threads > 1 else 1
        #: The next block to begin, and the next one to be added.
        self.n_begun, self.n_added = 0, 0
        self.results: dict[int, Result] = {}
        self.failures: dict[int, BaseException] = {}

    def next(self) -> int | None:
        """Return the number of the block that the calling thread is to compute, None if there is
        none left.

        It waits while too many blocks are ahead of the first that is not added.
        """
        with self.changed:
            while self.n_begun < len(self.blocks) and self.n_begun >= self.n_added + self.ahead:
                self.changed.wait()
            if self.n_begun >= len(self.blocks):
                return None
            self.n_begun += 1
            return self.n_begun - 1

    def work(self) -> None:
        """Compute blocks until none is left, and add results as soon as all before them are added.

        An error, of computing or of adding, is kept in `failures`, and no further block begins.
        """
        while (block := self.next()) is not None:
            try:
                result = self.compute(self.blocks[block])
                with self.changed:
                    self.results[block] = result
                    del result
                    while self.n_added in self.results:
                        self.add(self.results.pop(self.n_added))
                        self.n_added += 1
                    self.changed.notify_all()
            except BaseException as error:  # noqa: BLE001  # raised in the thread that called
                self.failures[block] = error
                self.stop()

    def help(self) -> None:
        """Compute blocks in a thread of its own, as `work` does: products in one thread, no
        gradients recorded, and inference mode as in the thread that calls.
        """
        with (
            single_thread(),
            block_threads(1),
            torch.inference_mode(self.inference),
            torch.no_grad(),
        ):
            self.work()

    def stop(self) -> None:
        """Let no further block begin."""
        with self.changed:
            self.n_begun = len(self.blocks)
            self.changed.notify_all()

    def raise_failure(self) -> None:
        """Raise the error of the first block that failed, with a note of its samples; without one,
        do nothing.
        """
        if self.failures:
            place = min(self.failures)
            error, block = self.failures[place], self.blocks[place]
            if isinstance(block, slice):
                error.add_note(f"raised in samples {block.start} to {block.stop - 1}")
            raise error
