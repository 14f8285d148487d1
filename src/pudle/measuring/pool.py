"""Worker processes that carry out jobs, can be killed without harm, and do not outlive this one,
however it ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NamedTuple, TypeVar

from ..processes import ONE_THREAD, TICK, end_group_with_pipe, end_with_parent
from .statuses import failure

#: Seconds that a worker may take to start, which includes importing what its first job needs.
START = 120.0

#: What a worker calls to carry out a job: with a function to call with each part of the result that
#: is worth keeping.
Work = Callable[[Callable[[Any], None]], Any]
Key = TypeVar("Key")


class Job(NamedTuple, Generic[Key]):
    """Work for a worker, picklable, with the seconds that it may take, and the caller's own key."""

    key: Key
    work: Work
    timeout: float


class Outcome(NamedTuple):
    """How a job ended: its result, or a status that is not ok with a reason, and the parts kept on
    the way.
    """

    result: Any
    status: str
    reason: str
    parts: list[Any]


class Pool:
    """Processes that carry out jobs, one after the other; each is replaced when a job takes too
    long or ends it.

    Parameters
    ----------
    size : int
        Greatest number of processes.
    prepare : callable
        Picklable; called once in each process before its first job.
    """

    def __init__(self, size: int, prepare: Callable[[], None]) -> None:
        self.size, self.prepare = size, prepare
        self.workers: list[_Worker] = []

    def run(
        self, jobs: Iterable[Job[Key]], most: int | None = None
    ) -> Generator[tuple[Key, Outcome], None, None]:
        """Yield the key and the outcome of every job, in the order in which they end; at most
        `most` run at once.
        """
        size = min(self.size, most or self.size)
        waiting = list(jobs)[::-1]
        while waiting or any(worker.job for worker in self.workers):
            while waiting and sum(worker.job is not None for worker in self.workers) < size:
                idle = next((worker for worker in self.workers if worker.job is None), None)
                if idle is None:
                    idle = _Worker(self.prepare)
                    self.workers.append(idle)
                idle.start(waiting.pop())
            wait([worker.connection for worker in self.workers if worker.job], TICK)
            for worker in self.workers[:]:
                job, outcome = worker.job, worker.outcome()
                if job and outcome:
                    if worker.ended:
                        self.workers.remove(worker)
                    yield job.key, outcome

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end()


class _Worker:
    """One process of a pool and, while it carries out a job, the job and the parts kept so far."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        # A fork would share the state of torch's threads, and cannot use CUDA; `multiprocessing`
        # refuses to start a process from the processes of other libraries' pools.
        self.connection, theirs = Pipe()
        # The process ends when this end of a pipe is closed, as it is when this process ends.
        held, self.pipe = Pipe(duplex=False)
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; from pudle.measuring.pool import serve;"
            " serve(sys.argv[1:])"
        )
        # A group of its own can be ended as a whole, and Ctrl-C in the terminal reaches the parent
        # alone, which decides.
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                program,
                str(theirs.fileno()),
                str(held.fileno()),
                str(os.getpid()),
            ],
            process_group=0,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), held.fileno()),
            env=os.environ | ONE_THREAD,
        )
        theirs.close()
        held.close()
        with contextlib.suppress(
            OSError
        ):  # where the process has just died, the first outcome says so
            self.connection.send_bytes(pickle.dumps(prepare))
        self.job: Job[Any] | None = None
        self.parts: list[Any] = []
        self.deadline = 0.0
        self.ended = False

    def start(self, job: Job[Any]) -> None:
        self.job, self.parts = job, []
        self.deadline = time.monotonic() + START + job.timeout
        with contextlib.suppress(OSError):  # where the process has just died, its outcome says so
            self.connection.send_bytes(pickle.dumps(job.work))

    def outcome(self) -> Outcome | None:
        """Return how the current job ended, or None if it has not."""
        job, alive = self.job, self.process.poll() is None
        if job is None:
            return None
        while self.connection.poll():
            try:
                kind, content = pickle.loads(self.connection.recv_bytes())
            except (EOFError, OSError, pickle.UnpicklingError):
                alive = False
                break
            if kind == "started":
                self.deadline = time.monotonic() + job.timeout
            elif kind == "part":
                self.parts.append(content)
            else:
                self.job = None
                status, reason = ("ok", "") if kind == "done" else content
                return Outcome(content if kind == "done" else None, status, reason, self.parts)
        if alive and time.monotonic() < self.deadline:
            return None
        if alive:
            self.end()
            status, hint = "timeout", "allow more with --timeout, or use fewer depths or samples"
            reason = f"not finished after {job.timeout:g} s: {hint}"
        else:
            self.end(grace=1.0)
            status, reason = _death(self.process.returncode)
        self.job = None
        return Outcome(None, status, reason, self.parts)

    def end(self, grace: float = 0.0) -> None:
        """End the process, after some seconds in which it may end by itself, and the processes that
        it started.
        """
        self.ended = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self.pipe.close()


def serve(arguments: list[str]) -> None:
    """Carry out jobs until the other end of the connection is closed: what a worker does.

    The arguments are the file descriptors of the connection and of a pipe that the parent holds,
    and the parent's number.
    """
    connection, pipe, parent = Connection(int(arguments[0])), int(arguments[1]), int(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_group_with_pipe(pipe)
    # Where the system cannot do this, or the parent has just ended.
    end_with_parent(parent, lambda: os.killpg(0, signal.SIGKILL))

    def send(kind: str, content: Any) -> None:
        connection.send_bytes(pickle.dumps((kind, content)))

    with contextlib.suppress(EOFError, OSError):
        # Unpickling imports what is needed, which takes seconds.
        pickle.loads(connection.recv_bytes())()
        while True:
            task = connection.recv_bytes()
            try:
                work = pickle.loads(task)
                send("started", None)
                send("done", work(lambda part: send("part", part)))
            except BaseException as error:  # noqa: BLE001  # whatever ends a job is its outcome
                send("failed", failure(error))


def _death(code: int | None) -> tuple[str, str]:
    """Return the status and the reason for a process that ended in the middle of a job."""
    if code == -signal.SIGKILL:
        return (
            "out-of-memory",
            "the process was killed (signal 9), most likely because memory ran out",
        )
    if code is not None and code < 0:
        return "error", f"the process was ended by signal {-code} ({signal.strsignal(-code)})"
    return "error", f"the process ended with exit code {code}"
