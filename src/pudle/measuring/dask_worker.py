"""What runs on the workers of a Dask cluster: tasks, each in a process of its own that may break
without harm to the worker.

A worker shares no disk with the machine that asks. The files that a task reads travel to it, and
those that it writes back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Worker, WorkerPlugin, get_worker

from .. import kernel_choice
from ..algorithms import kernels
from ..files import write_atomically
from .pool import Job, Outcome, Pool
from .store import Store
from .tasks import carry_out, place, prepare_worker

#: Seconds that loading what a task needs may take, which is not the task's own work.
MOST_LOADING = 120.0
#: Seconds that compiling the kernels on a worker may take.
MOST_COMPILING = 900.0


class File(NamedTuple):
    """A file that travels: its path, in the store if it is relative, and its bytes; None where
    every machine has it.
    """

    path: str
    content: bytes | None


class Order(NamedTuple):
    """A task for a worker: its kind, the run that asks for it, its arguments, and the seconds that
    it may take.

    Its result must have this place and key. `cwd` is the folder that paths in specs are seen from,
    and `kernels` the choice of kernels.
    """

    kind: str
    run: str
    arguments: tuple[Any, ...]
    timeout: float
    place: tuple[str, str]
    cwd: str
    kernels: str


class Delivery(NamedTuple):
    """How a task ended on a worker: the outcome without its result, the files that it wrote, and
    why it was refused.

    The files are pairs of a path in the store and bytes.
    """

    outcome: Outcome
    files: list[tuple[str, bytes]]
    worker: str
    refusal: str = ""


class Processes(WorkerPlugin):
    """The processes of one Dask worker, one per thread, and the folder that they write to."""

    name = "pudle"
    # Another run on the same cluster finds the processes of the first, which may be busy.
    idempotent = True

    def setup(self, worker: Worker) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pudle-", dir=worker.local_directory))
        self.idle: deque[Pool] = deque()
        self.lock = threading.Lock()
        self.compiled = False

    def teardown(self, worker: Worker) -> None:
        while self.idle:
            self.idle.pop().__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def process(self) -> Iterator[Pool]:
        """Lend a pool of one process."""
        try:
            pool = self.idle.pop()
        except IndexError:
            pool = Pool(1, prepare_worker)
        try:
            yield pool
        finally:
            self.idle.append(pool)

    def receive(self, files: tuple[File, ...], run: Path) -> None:
        """Write the files that a task reads: those of the store into it, others below a folder that
        stands for the root.
        """
        # Two threads of this process would share the name of a temporary file.
        with self.lock:
            for path, content in files:
                here = _below(run / "files", path) if path.startswith("/") else run / "store" / path
                if here.is_symlink() or here.exists():
                    continue
                if content is None:
                    here.parent.mkdir(parents=True, exist_ok=True)
                    here.symlink_to(path)
                else:
                    write_atomically(here, content)

    def compile(self) -> None:
        """Compile the kernels once, before any task needs them within its time limit."""
        with self.lock, self.process() as pool:
            if not self.compiled:
                list(pool.run([Job(None, _compile, MOST_COMPILING)]))
                self.compiled = True


def fulfill(order: Order, *files: File) -> Delivery:
    """Carry out a task on the Dask worker that this is called on."""
    worker = get_worker()
    processes: Any = worker.plugins[Processes.name]
    run = processes.folder / order.run
    processes.receive(files, run)
    if order.kind != "reference":
        processes.compile()
    *what, store = order.arguments
    arguments = (*what, dataclasses.replace(store, folder=run / "store"))
    folder = _below(run / "files", order.cwd)
    with processes.process() as pool:
        locate = partial(_locate, order.kind, arguments, folder, order.kernels)
        ((_, located),) = pool.run([Job(None, locate, MOST_LOADING)])
        if located.result != order.place:
            reason = located.reason or "its key differs, by the sources, a library or a file"
            return Delivery(located._replace(result=None), [], worker.address, reason)
        ((_, outcome),) = pool.run(
            [Job(None, partial(carry_out, order.kind, arguments), order.timeout)]
        )
    written = _written(run / "store", order) if outcome.status == "ok" else []
    return Delivery(outcome._replace(result=None), written, worker.address)


def _below(root: Path, path: str) -> Path:
    """Return an absolute path with a folder as the root of all."""
    return root.joinpath(*Path(path).parts[1:])


def _locate(
    kind: str, arguments: tuple[Any, ...], folder: Path, kernels: str, keep: Callable[[Any], None]
) -> tuple[str, str]:
    """Go to the folder that paths in specs are seen from, and return where a result would be kept,
    and under which key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ[kernel_choice.VARIABLE] = kernels
    store: Store = arguments[-1]
    path, key = place(kind, arguments)
    return path.relative_to(store.folder).as_posix(), key


def _compile(keep: Callable[[Any], None]) -> None:
    kernels.prepare()


def _written(store: Path, order: Order) -> list[tuple[str, bytes]]:
    """Return the files of a result, the record last: one that exists has all that it speaks of."""
    path = store / order.place[0]
    beside = path.with_suffix(".npz")
    paths = [beside, path] if order.kind == "experiment" and beside.exists() else [path]
    return [(each.relative_to(store).as_posix(), each.read_bytes()) for each in paths]
