"""Tasks on a Dask cluster: records travel back to the store, and files that tasks read travel to
the workers.

Dask schedules, balances the load, and carries a task out again elsewhere when a worker is lost.
What is left to do here is to say what a task needs, to judge what comes back, and to go on when the
scheduler was restarted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import yaml
from dask.utils import parse_bytes
from distributed import Client, Future, KilledWorker, LocalCluster

from ..errors import InvalidArgument, PudleError, first_line
from ..files import read_json, write_atomically
from ..kernel_choice import choice
from ..processes import TICK
from ..validation import check_integer
from .dask_worker import Delivery, File, Order, Processes, fulfill
from .executors import Executor
from .pool import Outcome
from .store import Store
from .tasks import Task, concluded, input_files, needs, place

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


class DaskCluster(Executor):
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

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Any], None, None]:
        waiting = list(tasks)[::-1]
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
                while waiting and len(running) < max(LEAST_AHEAD, AHEAD * self._threads()):
                    task = waiting.pop()
                    if task.kind == "kernels":
                        # Every worker compiles its own.
                        yield task, None
                        continue
                    future = self._submit(task)
                    running[future.key] = task, future
                    future.add_done_callback(ended.put)
                with contextlib.suppress(queue.Empty):
                    future = ended.get(timeout=TICK)
                    if future.status in ("finished", "error") and future.key in running:
                        task, _ = running.pop(future.key)
                        yield task, self._settled(task, future)
        finally:
            if self.client.status == "running":
                self.client.cancel([future for _, future in running.values()])

    def _connected(self) -> Any:
        """Wait until a scheduler that was lost is back, and return the connection, or raise
        PudleError.
        """
        # Dask's client connects again by itself, and closes when that takes too long.
        while self.client.status != "running":
            if self.client.status not in ("connecting", "running"):
                raise PudleError(
                    f"the Dask scheduler at {self.address} is lost: finished results are kept;"
                    " start it again and run again to continue"
                )
            time.sleep(TICK)
        connection = self.client.scheduler_comm
        self.client.register_plugin(Processes())
        return connection

    def _workers(self) -> list[dict[str, Any]]:
        """Return what the scheduler knows of its workers, nothing while it is away."""
        with contextlib.suppress(OSError):
            return list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        return []

    def _threads(self) -> int:
        return sum(worker["nthreads"] for worker in self._workers())

    def _submit(self, task: Task) -> Future:
        """Hand a task over, together with the files that it reads, each of which travels once."""
        store: Store = task.arguments[-1]
        path, key = place(task.kind, task.arguments)

        def within(path: Path) -> str:
            return path.relative_to(store.folder).as_posix()

        order = Order(*task._replace(label=self.label), (within(path), key), os.getcwd(), choice())
        needed = [
            (within(each), each, True) for each in needs(task.kind, task.arguments) if each.exists()
        ]
        needed += [
            (str(each), each, travels) for each, travels in input_files(task.kind, task.arguments)
        ]
        files = [self._file(*each) for each in needed]
        options = {"resources": self._resources(), "retries": RETRIES, "pure": False}
        return self.client.submit(
            fulfill, order, *files, key=f"pudle-{task.kind}-{uuid.uuid4().hex}", **options
        )

    def _file(self, name: str, path: Path, travels: bool) -> Future:
        """Return a file as a task's argument: the same content is the same future, and is kept
        while a task needs it.
        """
        content = path.read_bytes() if travels else None
        digest = hashlib.sha256(
            repr((name, content and hashlib.sha256(content).hexdigest())).encode()
        ).hexdigest()
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

    def _settled(self, task: Task, future: Future) -> Any:
        """Write down what became of a task, and return its result."""
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            tried, last = error.allowed_failures + 1, error.last_worker.address
            reason = f"each of the {tried} Dask workers that tried it was lost, the last {last}"
            return concluded(task, Outcome(None, "error", reason, []))
        if error:
            raise PudleError(
                f"a Dask worker cannot carry out {task.label} ({type(error).__name__}:"
                f" {first_line(error)}): {REMEDY}"
            )
        delivery: Delivery = future.result()
        if delivery.refusal:
            raise PudleError(
                f"the Dask worker {delivery.worker} would not measure the same as {task.label} here"
                f" ({delivery.refusal}): {REMEDY}"
            )
        outcome = delivery.outcome
        if outcome.status != "ok":
            return concluded(
                task, outcome._replace(reason=f"{outcome.reason} (Dask worker {delivery.worker})")
            )
        store: Store = task.arguments[-1]
        for path, content in delivery.files:
            write_atomically(store.folder / path, content)
        return read_json(store.folder / path) if task.kind in ("score", "experiment") else None


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
    settings: dict[str, Any] = {"distributed.admin.large-graph-warning-threshold": "1GiB"}
    settings |= {"distributed.worker.profile.enabled": False}
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        if kind == "local":
            cluster: Any = stack.enter_context(_local(rest, device))
        elif kind == "slurm":
            cluster = stack.enter_context(_slurm(Path(rest), say))
        elif "://" in address:
            cluster = address
        else:
            raise InvalidArgument(f"--scheduler {scheduler!r} is none: {FORMS}")
        try:
            client = stack.enter_context(Client(cluster, timeout=ANSWER, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"no Dask scheduler answers at {address} ({first_line(error)}): start one, or"
                " correct it"
            ) from None
        say(f"Dask scheduler {client.scheduler.address}, dashboard {client.dashboard_link}")
        yield DaskCluster(client, device, memory)


def _local(number: str, device: str) -> LocalCluster:
    if not number.isdigit() or int(number) == 0:
        raise InvalidArgument(f"--scheduler local:{number} has no number of workers: {FORMS}")
    resources = {"gpu": 1} if device == "cuda" else {}
    # Every task has a process of its own: workers and their guards in more of them would only take
    # time from these.
    return LocalCluster(
        n_workers=int(number),
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
        resources=resources,
    )


@contextlib.contextmanager
def _slurm(path: Path, say: Callable[[str], None]) -> Iterator[Any]:
    """Submit jobs to Slurm as a file configures them: dask-jobqueue's own configuration, and the
    number of `jobs`.
    """
    try:
        content = yaml.safe_load(path.read_text())
        jobs = check_integer("jobs", content.pop("jobs"), 1)
        dict(content["jobqueue"]["slurm"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = (
            error.strerror
            if isinstance(error, OSError)
            else f"{type(error).__name__}: {first_line(error)}"
        )
        raise InvalidArgument(
            f"--scheduler slurm:{path} cannot be used ({why}): give a YAML file with `jobs: NUMBER`"
            " and dask-jobqueue's own configuration under `jobqueue: slurm:`"
        ) from None
    # It brings the defaults of all that the file leaves out.
    from dask_jobqueue import SLURMCluster

    with dask.config.set(dask.config.merge(dask.config.config, content)):
        try:
            cluster = SLURMCluster()
        except (ValueError, TypeError) as error:
            raise InvalidArgument(
                f"--scheduler slurm:{path}: dask-jobqueue refuses it: {first_line(error)}"
            ) from None
        with cluster:
            say(f"job script, {jobs} times:\n{cluster.job_script()}")
            cluster.scale(jobs=jobs)
            yield cluster
