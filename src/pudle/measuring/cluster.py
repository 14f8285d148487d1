"""Tasks on a Dask cluster: files that tasks read travel to the workers, and records back to the
store, since they share no disk.

Dask schedules, balances the load, and carries a task out again elsewhere when a worker is lost.
What is left to do here is to say what a task needs, to judge what comes back, and to go on when the
scheduler was restarted. On a worker each task runs in a process that may break without harm to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dask
import yaml
from dask.utils import parse_bytes
from distributed import (
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    Worker,
    WorkerPlugin,
    get_worker,
)

from .. import kernel_choice
from ..algorithms import kernels
from ..errors import InvalidArgument, PudleError, first_line
from ..files import write_atomically
from ..validation import check_integer
from ..workers import START, TICK, Job, Outcome, Pool
from .contents import ExperimentRecord, Record, ScoreRecord
from .runner import MOST_COMPILING, WORK, Task

FORMS = "give tcp://HOST:PORT (or another address of a Dask scheduler), local:N or slurm:FILE.yaml"
#: Seconds in which a scheduler must answer, and in which one that was lost must be back.
ANSWER = 30
#: What to do about a worker that cannot be used.
REMEDY = (
    "install the same pudle, plug-ins and libraries there, or stop it; finished results are kept,"
    " run again to continue"
)
#: Tasks that are handed over at once, for each thread of the cluster and at least: more would wait
#: with their files.
AHEAD, LEAST_AHEAD = 4, 16
#: Times that a task which raised an error on its worker, such as a full disk, is tried again.
RETRIES = 2


class File(NamedTuple):
    """A file that travels: its path, in the store if it is relative, and its bytes; None where
    every machine has it.
    """

    path: str
    content: bytes | None


class Order(NamedTuple):
    """A task for a worker, the label of the run that asks for it, and the key of its result.

    `cwd` is the folder that paths in specs are seen from, and `kernels` the choice of kernels.
    """

    task: Task
    run: str
    key: str
    cwd: str
    kernels: str


class DaskCluster:
    """The workers of a Dask scheduler.

    Parameters
    ----------
    client : Client
    device : {"cpu", "cuda"}
        Tasks on ``cuda`` go to workers that declare the resource ``gpu``.
    memory : int, optional
        Bytes of the resource ``memory`` that a task takes of its worker.
    """

    def __init__(self, client: Client, device: str = "cpu", memory: int | None = None) -> None:
        self.client, self.device, self.memory = client, device, memory
        self.address = client.scheduler.address if client.scheduler else ""
        self.label = uuid.uuid4().hex

    def run(
        self, jobs: Iterable[Job], most: int | None = None
    ) -> Generator[tuple[Task, Outcome], None, None]:
        """Yield the task of every job and its outcome, in the order in which they end."""
        waiting: list[Task] = [job.key for job in jobs][::-1]
        running: dict[Any, tuple[Task, Future]] = {}
        ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        connection = None
        try:
            while waiting or running:
                if self.client.scheduler_comm is not connection or self.client.status != "running":
                    # A scheduler that was started again knows nothing of what it was given before.
                    connection = self._connected()
                    waiting += [task for task, _ in running.values()]
                    running.clear()
                threads = sum(worker["nthreads"] for worker in self._workers())
                while waiting and len(running) < max(LEAST_AHEAD, AHEAD * threads):
                    task = waiting.pop()
                    if task.kind == "kernels":
                        # Every worker compiles its own.
                        yield task, Outcome(None)
                        continue
                    future = self._submit(task)
                    running[future.key] = task, future
                    future.add_done_callback(ended.put)
                with contextlib.suppress(queue.Empty):
                    future = ended.get(timeout=TICK)
                    if future.status in ("finished", "error") and future.key in running:
                        task, _ = running.pop(future.key)
                        yield task, self._outcome(task, future)
        finally:
            if self.client.status == "running":
                self.client.cancel([future for _, future in running.values()])

    def _connected(self) -> Any:
        """Wait until a scheduler that was lost is back, and return the connection, or raise
        PudleError.
        """
        # Dask's client connects again by itself, and closes when that takes too long.
        while self.client.status != "running":
            if self.client.status != "connecting":
                raise PudleError(
                    f"the Dask scheduler at {self.address} is lost: finished results are kept;"
                    " start it again and run again to continue"
                )
            time.sleep(TICK)
        connection = self.client.scheduler_comm
        self.client.register_plugin(_Processes())
        return connection

    def _workers(self) -> list[dict[str, Any]]:
        """Return what the scheduler knows of its workers, nothing while it is away."""
        with contextlib.suppress(OSError):
            return list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        return []

    def _submit(self, task: Task) -> Future:
        """Hand a task over, together with the files that it reads, each of which travels once."""
        folder, kernels_chosen = task.arguments[-1].folder, kernel_choice.choice()
        order = Order(task, self.label, task.place[1], os.getcwd(), kernels_chosen)
        files = [
            self._file(each.relative_to(folder).as_posix(), each, True)
            for each in task.references
            if each.exists()
        ]
        files += [self._file(str(each), each, travels) for each, travels in task.input_files]
        return self.client.submit(
            _fulfill,
            order,
            *files,
            key=f"pudle-{task.kind}-{uuid.uuid4().hex}",
            resources=self._resources(),
            retries=RETRIES,
            pure=False,
        )

    def _file(self, name: str, path: Path, travels: bool) -> Future:
        """Return a file as a task's argument: the same content is the same future, and is kept
        while a task needs it.
        """
        content = path.read_bytes() if travels else None
        digest = hashlib.sha256(name.encode() + b"\0" + (content or b"")).hexdigest()
        # A task rather than scattered data, which would be lost with the worker that holds it.
        return self.client.submit(File, name, content, key=f"pudle-file-{digest}", retries=RETRIES)

    def _resources(self) -> dict[str, float]:
        """Return what a task takes of its worker, as far as workers declare such resources."""
        workers = self._workers()
        declared = {name for worker in workers for name in worker["resources"]}
        wanted: dict[str, float] = {"gpu": 1} if self.device == "cuda" else {}
        wanted |= {"memory": self.memory} if self.memory else {}
        for name in wanted:
            if workers and name not in declared:
                raise InvalidArgument(
                    f"no worker of {self.address} declares the resource {name!r}, which a task"
                    f" needs: start workers with --resources '{name}=...'"
                )
        return wanted | ({"cpu": 1} if "cpu" in declared else {})

    def _outcome(self, task: Task, future: Future) -> Outcome:
        """Return how a task ended, once the store has what it wrote."""
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            tried, last = error.allowed_failures + 1, error.last_worker.address
            reason = f"each of the {tried} Dask workers that tried it was lost, the last {last}"
            return Outcome(None, "error", reason)
        if error:
            raise PudleError(
                f"a Dask worker cannot carry out {task.label} ({type(error).__name__}:"
                f" {first_line(error)}): {REMEDY}"
            )
        outcome, worker = future.result()
        if isinstance(outcome.result, str):
            raise PudleError(
                f"the Dask worker {worker} would not measure the same as {task.label} here"
                f" ({outcome.result}): {REMEDY}"
            )
        if outcome.status != "ok":
            return outcome._replace(reason=f"{outcome.reason} (Dask worker {worker})")
        for path, content in outcome.result:
            write_atomically(task.arguments[-1].folder / path, content)
        kinds: dict[str, type[Record]] = {"score": ScoreRecord, "experiment": ExperimentRecord}
        return Outcome(kinds[task.kind].read(task.place[0]) if task.kind in kinds else None)


class _Processes(WorkerPlugin):
    """The processes of one Dask worker, one per thread, and the folder that they write to."""

    name = "pudle"
    # Another run on the same cluster finds the processes of the first, which may be busy.
    idempotent = True

    def setup(self, worker: Worker) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pudle-", dir=worker.local_directory))
        self.pools: dict[int, Pool] = {}
        self.lock = threading.Lock()

    def teardown(self, worker: Worker) -> None:
        for pool in self.pools.values():
            pool.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pool(self) -> Pool:
        """Return the pool of one process that belongs to this thread, with compiled kernels."""
        with self.lock:
            pool = self.pools.get(threading.get_ident())
            if pool is None:
                pool = self.pools[threading.get_ident()] = Pool(1)
                # Now, because this takes longer than many a task may.
                list(pool.run([Job(kernels.prepare, (), MOST_COMPILING)]))
            return pool

    def receive(self, files: Iterable[File], run: Path) -> None:
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


def _fulfill(order: Order, *files: File) -> tuple[Outcome, str]:
    """Return the outcome of a task, and the address of the Dask worker that this is called on."""
    worker = get_worker()
    processes: Any = worker.plugins[_Processes.name]
    run = processes.folder / order.run
    processes.receive(files, run)
    *what, store = order.task.arguments
    arguments = (*what, replace(store, folder=run / "store"))
    here = order._replace(task=replace(order.task, arguments=arguments))
    # Loading what a task needs is not its own work, which has a limit.
    look = Job(_refusal, (here, _below(run / "files", order.cwd)), START)
    ((_, outcome),) = processes.pool().run([look])
    if outcome.status == "ok" and not outcome.result:
        work = Job(_carry_out, (here.task,), here.task.timeout)
        ((_, outcome),) = processes.pool().run([work])
    return outcome, worker.address


def _below(root: Path, path: str) -> Path:
    """Return an absolute path with a folder as the root of all."""
    return root.joinpath(*Path(path).parts[1:])


def _refusal(order: Order, folder: Path) -> str:
    """Go to the folder that paths in specs are seen from; say why a task is refused, if it is."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ[kernel_choice.VARIABLE] = order.kernels
    try:
        key = order.task.place[1]
    except Exception as error:  # noqa: BLE001  # a plug-in may be broken on this machine alone
        return f"{type(error).__name__}: {first_line(error)}"
    return "" if key == order.key else "its key differs, by the sources, a library or a file"


def _carry_out(task: Task) -> list[File]:
    """Carry out a task, and return the files that it wrote."""
    WORK[task.kind](*task.arguments)
    # The record comes last: one that exists has all that it speaks of.
    path, folder = task.place[0], task.arguments[-1].folder
    paths = [path.with_suffix(".npz"), path] if task.kind == "experiment" else [path]
    return [
        File(each.relative_to(folder).as_posix(), each.read_bytes())
        for each in paths
        if each.exists()
    ]


@contextlib.contextmanager
def dask_cluster(scheduler: str, device: str, say: Callable[[str], None]) -> Iterator[DaskCluster]:
    """Connect to a Dask scheduler, or start one, and tell its addresses; it ends with the context
    if it was started here.

    Parameters
    ----------
    scheduler : str
        ``local:N`` for N workers on this machine, ``slurm:FILE.yaml`` for jobs that dask-jobqueue
        submits as the file configures it, or the address of a scheduler, such as
        ``tcp://host:8786``; ``?memory=4GiB`` after it is the memory that a task takes of a worker.
    device : {"cpu", "cuda"}
    say : callable
        Called with lines for the user.

    Raises
    ------
    InvalidArgument
        If the text has none of these forms, the file is unusable, or no scheduler answers.
    """
    kind, _, rest = scheduler.partition(":")
    address, _, query = scheduler.partition("?")
    try:
        memory = parse_bytes(query.removeprefix("memory=")) if query else None
    except ValueError as error:
        raise InvalidArgument(
            f"--scheduler {scheduler!r}: {error}: give the memory of a task as ?memory=4GiB"
        ) from None
    # The files of references are no mistake, of which Dask would warn, and its profile of workers
    # shows them waiting.
    settings: dict[str, Any] = {
        "distributed.admin.large-graph-warning-threshold": "1GiB",
        "distributed.worker.profile.enabled": False,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        if kind == "local" and rest.isdigit() and int(rest):
            # Every task has a process of its own: workers and their guards in more of them would
            # only take time from these.
            cluster: Any = stack.enter_context(
                LocalCluster(
                    n_workers=int(rest),
                    threads_per_worker=1,
                    processes=False,
                    protocol="tcp",
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",
                    resources={"gpu": 1} if device == "cuda" else {},
                )
            )
        elif kind == "slurm":
            cluster = stack.enter_context(_slurm(Path(rest), say))
        elif "://" in address:
            cluster = address
        else:
            raise InvalidArgument(f"--scheduler {scheduler!r} names no cluster: {FORMS}")
        try:
            client = stack.enter_context(Client(cluster, timeout=ANSWER, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"no Dask scheduler answers at {address} ({first_line(error)}): start one, or"
                " correct it"
            ) from None
        say(f"Dask scheduler {client.scheduler.address}, dashboard {client.dashboard_link}")
        yield DaskCluster(client, device, memory)


@contextlib.contextmanager
def _slurm(path: Path, say: Callable[[str], None]) -> Iterator[Any]:
    """Submit jobs to Slurm as a file configures them: dask-jobqueue's own configuration, and the
    number of `jobs`.
    """
    from dask_jobqueue import SLURMCluster

    with contextlib.ExitStack() as stack:
        try:
            content = yaml.safe_load(path.read_text())
            jobs = check_integer("jobs", content.pop("jobs"), 1)
            merged = dask.config.merge(dask.config.config, content)
            stack.enter_context(dask.config.set(merged))
            cluster = stack.enter_context(SLURMCluster())
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else first_line(error)
            raise InvalidArgument(
                f"--scheduler slurm:{path} cannot be used ({type(error).__name__}: {why}): give a"
                " YAML file with `jobs: NUMBER` and dask-jobqueue's own configuration under"
                " `jobqueue: slurm:`"
            ) from None
        say(f"job script, {jobs} times:\n{cluster.job_script()}")
        cluster.scale(jobs=jobs)
        yield cluster
