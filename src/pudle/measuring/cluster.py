"""Tasks on a Dask cluster: files that tasks read travel to the workers, and records back to the
store, since they share no disk.

Dask schedules, balances the load, and carries a task out again elsewhere when a worker is lost.
What is left to do here is to say what a task needs, to judge what comes back, and to go on when the
scheduler was restarted. On a worker each task runs in a process that may break without harm to it.
"""

import contextlib
import hashlib
import os
import pickle
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import yaml
from dask.utils import parse_bytes
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker

from .. import kernel_choice
from ..algorithms import kernels
from ..errors import InvalidArgument, PudleError, first_line
from ..files import write_atomically
from ..validation import check_integer
from ..workers import Job, Outcome, Owners, Pool
from .results.result import RecordedResult
from .stages import MOST_COMPILING, Outcomes, Task

#: Seconds in which a scheduler must answer, and between two looks for one that was lost.
ANSWER, TICK = 30, 0.25
#: Tasks that are handed over at once, for each thread of the cluster and at least: more would wait
#: with their files.
AHEAD, LEAST_AHEAD = 4, 16
#: Times that a task which raised an error on its worker, such as a full disk, is tried again.
RETRIES = 2

#: A file that travels: its absolute path and its bytes; None where every machine has it.
File = tuple[str, bytes | None]


@dataclass
class DaskCluster:
    """The workers of a Dask scheduler.

    Attributes
    ----------
    client : Client
    address : str
        Where the scheduler is, also while it is away.
    resources : mapping
        What a task takes of its worker.
    """

    client: Client
    address: str
    resources: Mapping[str, float]

    def run(self, jobs: Iterable[Job[Task, Any]]) -> Outcomes:
        """Yield the task of every job and its outcome, in the order in which they end.

        A few tasks for each thread of the cluster are handed over at a time. One without results,
        such as compiling kernels, is ok at once: every worker compiles its own. What a scheduler
        that was lost had is handed over again once it is back; PudleError says that it stays away.
        Tasks still running are cancelled when the iteration ends.
        """
        waiting: list[Task] = [job.key for job in jobs][::-1]
        running: dict[Future, Task] = {}
        ended_futures: queue.SimpleQueue[Future] = queue.SimpleQueue()
        try:
            while waiting or running:
                threads = sum(worker["nthreads"] for worker in self._workers())
                while waiting and len(running) < max(LEAST_AHEAD, AHEAD * threads):
                    task = waiting.pop()
                    if not task.results:
                        # Every worker compiles its own kernels.
                        yield task, Outcome(None)
                        continue
                    future = self._submit(task)
                    running[future] = task
                    future.add_done_callback(ended_futures.put)
                if running:
                    future = ended_futures.get()
                    task = running.pop(future)
                    if future.cancelled():
                        # The scheduler was lost, and knows nothing of its tasks once it is back.
                        # Dask's client connects again by itself, and closes when that takes too
                        # long.
                        while self.client.status != "running":
                            if self.client.status != "connecting":
                                raise PudleError(
                                    f"the Dask scheduler at {self.address} is lost: finished"
                                    " results are kept; start it again and run again to continue"
                                )
                            time.sleep(TICK)
                        waiting.append(task)
                    else:
                        yield task, self._outcome(task, future)
        finally:
            if self.client.status == "running":
                self.client.cancel([*running])

    def _workers(self) -> list[dict[str, Any]]:
        """Return the scheduler's records of its workers, none while it is away."""
        with contextlib.suppress(OSError):
            return list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        return []

    def _submit(self, task: Task) -> Future:
        """Hand over a task with one result, together with the files that it reads, each of which
        travels once.

        Reads references of the store and the user's small files. InvalidArgument says that no
        worker declares a resource that a task takes; with no worker there yet, the task waits for
        one.
        """
        workers = self._workers()
        declared = {name for worker in workers for name in worker["resources"]}
        for name in self.resources.keys() - declared if workers else ():
            raise InvalidArgument(
                f"no worker of {self.address} declares the resource {name!r}, which a task needs:"
                f" start workers with --resources '{name}=...'"
            )
        (result,), store = task.results, task.store
        references = [store.place(reference).path for reference in result.references]
        files = [(path, True) for path in references if path.exists()]
        sent = []
        for path, travels in (*files, *task.input_files):
            file = (str(path), path.read_bytes() if travels else None)
            digest = hashlib.sha256(pickle.dumps(file)).hexdigest()
            # The same content is the same future, and is kept while a task needs it. A task rather
            # than scattered data, which would be lost with the worker that holds it.
            key = f"pudle-file-{digest}"
            sent.append(self.client.submit(tuple, file, key=key, retries=RETRIES))
        return self.client.submit(
            _fulfill,
            task,
            task.owners,
            store.place(result).key,
            self.client.id,
            os.getcwd(),
            kernel_choice.chosen_path(),
            *sent,
            key=f"pudle-{type(result).__name__}-{uuid.uuid4().hex}",
            resources={**self.resources, **({"cpu": 1} if "cpu" in declared else {})},
            retries=RETRIES,
            pure=False,
        )

    def _outcome(self, task: Task, future: Future) -> Outcome[Any]:
        """Return the outcome of a task, whose result is its record, after writing the files that it
        brought into the store.

        If every worker that tried it was lost, its status is ``error``. PudleError ends the run
        where a worker cannot carry it out at all, as where its packages are others.
        """
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            tried, last = error.allowed_failures + 1, error.last_worker.address
            reason = f"each of the {tried} Dask workers that tried it was lost, the last {last}"
            return Outcome(None, "error", reason)
        if error:
            raise PudleError(
                f"a Dask worker cannot carry out {task.label} ({type(error).__name__}:"
                f" {first_line(error)}): install the same pudle, plug-ins and libraries there, or"
                " stop it; finished results are kept, run again to continue"
            )
        outcome: Outcome[Any] = future.result()
        if outcome.status != "ok":
            return outcome
        record, files = outcome.result
        for path, content in files:
            write_atomically(Path(path), content)
        return Outcome(record)


#: The process of each thread of a Dask worker; two threads would write the same files at once.
_THREAD, _LOCK = threading.local(), threading.Lock()


def _fulfill(
    task: Task,
    owners: Owners,
    key: str,
    run: str,
    cwd: str,
    kernels_chosen: str,
    *files: File,
) -> Outcome[Any]:
    """Carry out a task on a Dask worker, and return its outcome, whose result is its record and its
    files.

    All `files` lie below a folder of the `run` that stands for the root: those with content are
    written there, unless they are, and the others linked. `cwd` is the folder that paths in specs
    are seen from. The call takes place in a process that belongs to the thread of the Dask worker,
    and is started if need be. PudleError says that this worker would measure something else,
    because the task's key is not `key` there.
    """
    worker = get_worker()
    # Dask removes the folder when the worker ends.
    root = f"{worker.local_directory}/pudle-{run}"
    with _LOCK:
        for path, content in files:
            local_path = Path(root + path)
            if content is not None and not local_path.exists():
                write_atomically(local_path, content)
            elif content is None and not local_path.is_symlink():
                local_path.parent.mkdir(parents=True, exist_ok=True)
                local_path.symlink_to(path)
    if not hasattr(_THREAD, "pool"):
        _THREAD.pool = Pool(1)
    pool: Pool = _THREAD.pool
    task = replace(task, store=replace(task.store, folder=Path(f"{root}{task.store.folder}")))
    # Loading what a task needs is not the task itself, which has a limit.
    # Both calls have the same owners, and so the same process.
    outcome = pool.call_for(owners, MOST_COMPILING, _prepare, task, key, root + cwd, kernels_chosen)
    # A busy machine says nothing about what it would measure: the task is out of time.
    if outcome.status != "timeout":
        # A plug-in may be broken on this machine alone.
        if why := outcome.result or outcome.reason:
            raise PudleError(f"{worker.address} would not measure the same: {why}")
        result = pool.call_for(owners, task.timeout, _carry_out, task, root)
        if result.status == "ok":
            return result
        outcome = Outcome("", *result[1:])
    return outcome._replace(reason=f"{outcome.reason} (Dask worker {worker.address})")


def _prepare(task: Task, key: str, cwd: str, kernels_chosen: str) -> str:
    """Prepare this process for a task: go to the working folder, made if missing, choose and
    compile kernels; return why the task is refused, an empty text if it is not.

    It is refused if its key is not `key` here. Changes the process's working folder and
    environment.
    """
    os.makedirs(cwd, exist_ok=True)
    os.chdir(cwd)
    os.environ[kernel_choice.VARIABLE] = kernels_chosen
    kernels.prepare()
    same = task.store.place(task.results[0]).key == key
    return "" if same else "its key differs, by the sources, a library or a file"


def _carry_out(task: Task, root: str) -> tuple[object, list[File]]:
    """Measure the one result of a task, and return its record, None of a reference, and the files
    that it wrote, with their contents and their paths without `root`.
    """
    (result,), store = task.results, task.store
    record, path = task.call(store), store.place(result).path
    # The record comes last: one that exists has all that it speaks of.
    return record if isinstance(result, RecordedResult) else None, [
        (str(file).removeprefix(root), file.read_bytes())
        for file in result.files_at(path)
        if file.exists()
    ]


@contextlib.contextmanager
def dask_cluster(scheduler: str, device: str, say: Callable[[str], None]) -> Iterator[DaskCluster]:
    """Connect to a Dask scheduler, or start one, and yield the cluster; it ends with the context if
    it was started here.

    Dask's configuration is another meanwhile. The addresses of scheduler and dashboard are told,
    and for ``slurm`` the job script.

    Parameters
    ----------
    scheduler : str
        ``local:N`` for N workers on this machine, ``slurm:FILE.yaml`` for jobs that dask-jobqueue
        submits as the file configures it, or the address of a scheduler, such as
        ``tcp://host:8786``; ``?memory=4GiB`` after it is the memory that a task takes of a worker.
    device : {"cpu", "cuda"}
        With ``cuda`` a task takes one ``gpu``, a resource that workers must declare.
    say : callable
        Called with lines for the user.

    Raises
    ------
    InvalidArgument
        If the text has none of these forms, the file is unusable, or no scheduler answers.
    """
    kind, _, form_argument = scheduler.partition(":")
    address, _, query = scheduler.partition("?")
    resources = {"gpu": 1.0} if device == "cuda" else {}
    cluster: Any = address
    with contextlib.ExitStack() as stack:
        # The references of a task are no mistake, of which Dask would warn, and its profile of
        # workers shows them waiting.
        settings = {
            "distributed.admin.large-graph-warning-threshold": "1GiB",
            "distributed.worker.profile.enabled": False,
        }
        stack.enter_context(dask.config.set(settings))
        if kind == "local" and form_argument.isdigit() and int(form_argument):
            # Every task has a process of its own: workers and their guards in more of them would
            # only take time from these.
            cluster = LocalCluster(
                n_workers=int(form_argument),
                threads_per_worker=1,
                processes=False,
                protocol="tcp",
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                resources=resources,
            )
            stack.enter_context(cluster)
        elif kind == "slurm":
            from dask_jobqueue import SLURMCluster

            try:
                # dask-jobqueue's own configuration, and the number of jobs.
                content = yaml.safe_load(Path(form_argument).read_text())
                jobs = check_integer("jobs", content.pop("jobs"), 1)
                stack.enter_context(dask.config.set(dask.config.merge(dask.config.config, content)))
                cluster = stack.enter_context(SLURMCluster())
            except Exception as error:  # noqa: BLE001
                # Of a dozen kinds, depending on what the file holds instead.
                raise InvalidArgument(
                    f"--scheduler {scheduler} cannot be used ({type(error).__name__}:"
                    f" {first_line(error)}): give a YAML file with `jobs: NUMBER` and"
                    " dask-jobqueue's own configuration under `jobqueue: slurm:`"
                ) from None
            say(f"job script, {jobs} times:\n{cluster.job_script()}")
            cluster.scale(jobs=jobs)
        elif "://" not in address:
            raise InvalidArgument(
                f"--scheduler {scheduler!r} names no cluster: give tcp://HOST:PORT (or another"
                " address of a Dask scheduler), local:N or slurm:FILE.yaml"
            )
        try:
            if query:
                resources = resources | {"memory": parse_bytes(query.removeprefix("memory="))}
            client = stack.enter_context(Client(cluster, timeout=ANSWER, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"no Dask scheduler answers at {scheduler} ({first_line(error)}): start one or"
                " correct it, and give the memory of a task as ?memory=4GiB"
            ) from None
        say(f"Dask scheduler {client.scheduler.address}, dashboard {client.dashboard_link}")
        yield DaskCluster(client, client.scheduler.address, resources)
