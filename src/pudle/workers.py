"""Workers and other programs: processes that end when this one does, however it ends, with all that
they start.

One supervisor starts them all, a process of its own that never runs anybody's code. Each process
has a session and a guard, which leads it and holds a connection. When its other end is closed,
which the system does for a process that is killed, the guard kills the session.

On Linux the guard also adopts what the process leaves behind, so that nothing escapes it by a
session of its own or by a second fork. A guard that is killed takes its process with it, and the
supervisor adopts and ends the rest. Elsewhere a guard ends what is in its session, and what
descends from the process at that moment. What was started in another session, by a process that
has ended since, cannot be told there from any other process, and stays.
"""

import atexit
import ctypes
import importlib
import os
import pickle
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from signal import (
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGINT,
    SIGKILL,
    SIGTERM,
    set_wakeup_fd,
    signal,
    strsignal,
)
from time import monotonic, sleep
from typing import Any, Generic, NamedTuple, Self, TypeVar, TypeVarTuple

from .errors import PudleError, first_line

T = TypeVar("T")
Key = TypeVar("Key")
#: Whose code a worker runs besides this package's own: names of classes or files, none for built-in
#: ones. What one of them does to its process, it does to nobody else.
Owners = frozenset[str]
Arguments = TypeVarTuple("Arguments")

#: One thread per process, whichever library does the arithmetic; jax reads NPROC.
ONE_THREAD = dict.fromkeys(
    "OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS NPROC".split(), "1"
)
#: Seconds in which a worker must have imported what a job needs.
START = 120.0
#: The most seconds that a system call waits, about ten days.
MOST_WAITING = 1e6
#: Exit code of a command that cannot be started.
NOT_STARTED = 127
#: Seconds between two looks for processes to end: one may start another before it is killed. And
#: the most seconds for all looks, because the system may be unable to end a process.
LOOK, MOST_LOOKING = 0.005, 10.0
#: What Linux calls the two wishes of `_wish`: to be ended with the parent, and to adopt orphans.
END_WITH_PARENT, ADOPT_ORPHANS = 1, 36
#: The owners of what this package brings itself.
BUILT_IN: Owners = frozenset()
#: Errors of a connection whose other end is closed.
_CLOSED = EOFError, OSError
#: More file descriptors than a supervisor has open.
MOST_OPEN = 4096


class _Ending:
    """Something that is ended when its context is left."""

    end: Callable[[], object]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Process(_Ending):
    """A process of the supervisor; it ends, with all that it started, when the context is left.

    Parameters
    ----------
    target : sequence of str, or callable
        A command, or something picklable to call in a process that has the modules of this package
        which it needs already.
    outputs : sequence of int
        File descriptors that become its 1, 2, ... by default those of the supervisor. Its 0 leads
        to `talk`, see `listen`.
    cwd, env : optional
        Working folder and environment variables; those of this process by default.
    module : str
        What the call needs of this package, which the supervisor imports once for all.
    """

    def __init__(
        self,
        target: Sequence[str | Path] | Callable[[], object],
        outputs: Sequence[int] = (),
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        module: str = "",
    ) -> None:
        self.code: int | None = None
        #: Whose code it has run, as far as its pool let it.
        self.owners = BUILT_IN
        self.connection, far_end = Pipe()
        self.talk, far_talk = Pipe()
        call = (
            pickle.dumps(target)
            if callable(target)
            else [os.fspath(argument) for argument in target]
        )
        with far_end, far_talk:
            _CONTROL.hand_over([far_end.fileno(), far_talk.fileno(), *outputs])
        folder, variables = cwd or Path.cwd(), dict(env or os.environ)
        try:
            _send(self.connection, _Request(call, folder, variables, sys.path, module))
        except OSError:  # the supervisor was killed just now, as it would be seen a moment later
            self.code = -SIGKILL

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code, the negative number of a signal; None if the process has not ended
        after so many seconds, and without a number wait until it has.

        Where the supervisor was killed, the code is that of signal 9.
        """
        try:
            if self.code is None and self.connection.poll(timeout):
                self.code = _receive(self.connection)
        except _CLOSED:  # it was left, or the supervisor itself was killed
            self.code = -SIGKILL
        return self.code

    def end(self) -> int | None:
        """End the process with all that it started, wait for that, and return its exit code.

        Its connections are closed. One that has ended already keeps its code.
        """
        if self.code is None:
            with suppress(OSError):
                _send(self.connection, None)
            self.wait()
        self.connection.close()
        self.talk.close()
        return self.code


class _Request(NamedTuple):
    """A request to the supervisor to start a command, or a pickled call."""

    call: list[str] | bytes
    cwd: Path
    env: dict[str, str]
    path: list[str]
    module: str


def _send(connection: Connection, message: object) -> None:
    # The connection's own pickler would share the memory of tensors, which ends with a process.
    connection.send_bytes(pickle.dumps(message))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())


def run(
    command: Sequence[str | Path], env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, which has nothing to read, to its end, and return its exit code and what it
    printed on stdout and stderr, as texts.

    It has the environment of this process unless another is given. The exit code is `NOT_STARTED`
    where there is no such program, and a failure raises nothing.
    """
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
    ):
        with Process(command, [output.fileno(), errors.fileno()], env=env) as process:
            process.talk.close()
            code = process.wait() or 0
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(command, code, output.read(), errors.read())


@contextmanager
def run_at_end(script: str, *arguments: str | Path) -> Generator[None]:
    """Run a shell script when the context is left, also if this process is killed meanwhile: unlike
    all others the shell outlives its parent, on purpose.
    """
    # The script waits for the end of its input, which is that of this process at the latest.
    command = ["sh", "-c", f"cat > /dev/null; {script}", "sh", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


class Job(NamedTuple, Generic[Key, T]):
    """A call for a worker, picklable, and the seconds that it may take.

    The caller knows it by its `key`, which stays here, as do its `owners`, whose code it runs.
    """

    function: Callable[..., T]
    arguments: tuple[object, ...]
    timeout: float
    key: Key
    owners: Owners = BUILT_IN


class Outcome(NamedTuple, Generic[T]):
    """How a job ended: its result, or a status that is not ok with a reason, and the parts kept."""

    result: T
    status: str = "ok"
    reason: str = ""
    parts: Sequence[Any] = ()


class _Calls:
    """The base of what runs jobs: a single call is one job."""

    run: Callable[[Iterable[Job[Any, Any]]], Iterable[tuple[Any, Outcome[Any]]]]

    def call(
        self,
        timeout: float,
        function: Callable[[*Arguments], T],
        *arguments: *Arguments,
    ) -> Outcome[T]:
        """Carry out one job of built-in code, and return its outcome; a failure is a status of it,
        not an error.

        No worker that has run the code of a plug-in gets it; such code has `call_for`.
        """
        return self.call_for(BUILT_IN, timeout, function, *arguments)

    def call_for(
        self,
        owners: Owners,
        timeout: float,
        function: Callable[[*Arguments], T],
        *arguments: *Arguments,
    ) -> Outcome[T]:
        """Carry out one job that runs the code of some owners, and return its outcome; a failure is
        a status of it, not an error.
        """
        ((_, outcome),) = self.run([Job(function, arguments, timeout, None, owners)])
        return outcome


class _OutOfTime(PudleError):
    """A job has used up its time."""

    status = "timeout"

    def __init__(self, timeout: float) -> None:
        super().__init__(
            f"not finished after {timeout:g} s: give a larger timeout, fewer depths or samples"
        )


#: Functions that return where in the code of users an error arose, as ``FILE, line 3``, or an empty
#: text; the room `names`, which knows users' files and plug-ins, adds its own.
PLACE_FINDERS: list[Callable[[BaseException], str]] = []

#: Sends a worker's parent the kind of a message, and its content.
_SEND_TO_PARENT: ContextVar[Callable[[str, object], None]] = ContextVar(
    "tell", default=lambda *_: None
)


def keep(part: object) -> None:
    """Keep a part of the result of the job that is being carried out, should the rest fail."""
    _SEND_TO_PARENT.get()("part", part)


def restart_clock() -> None:
    """Count the time that the job being carried out may take from now on."""
    _SEND_TO_PARENT.get()("started", None)


def failure(error: BaseException) -> tuple[str, str]:
    """Return the status and the reason of whatever could not be computed because of an error.

    The status is that of the error if it is one of this package's that has one, else
    ``out-of-memory`` or ``error``; the reason is the first line of its text, with the name of an
    error of others, and except with a status of its own with the last line of a user's file that it
    went through.
    """
    if isinstance(error, PudleError) and error.status:
        return error.status, first_line(error)
    place = next(filter(None, (find(error) for find in PLACE_FINDERS)), "")
    ending = f", at {place}" if place else ""
    if isinstance(error, SystemExit):
        action = f"it tried to end the program with sys.exit({error.code!r}){ending}"
        return "error", f"{action}: raise an error instead"
    # torch has an error of its own for a full GPU, and a plain RuntimeError for a full memory.
    names = {kind.__name__ for kind in type(error).__mro__}
    out_of_memory = names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in str(
        error
    )
    # The texts of this package's own errors stand alone.
    prefix = "" if isinstance(error, PudleError) else f"{type(error).__name__}: "
    return "out-of-memory" if out_of_memory else "error", f"{prefix}{first_line(error)}{ending}"


class Pool(_Calls, _Ending):
    """At most `size` workers, which carry out jobs one after the other; one that a job ends, or
    takes too long in, is replaced.

    A worker that has run a plug-in serves jobs of the same owners alone, because code of others may
    leave anything behind in a process: another working folder, another default of torch, a patched
    method. The jobs of an owner follow each other, those of built-in code first.

    By default they have the `module` of this package, or the one that the first job calls; `start`
    may start them elsewhere, as processes that call `work`.
    """

    def __init__(
        self, size: int, start: Callable[[], Process] | None = None, *, module: str = ""
    ) -> None:
        self.size, self.start, self.module = size, start, module
        self.idle: list[Process] = []
        self.n_busy = 0
        self.lock = threading.Lock()

    def run(self, jobs: Iterable[Job[Key, T]]) -> Generator[tuple[Key, Outcome[T]]]:
        """Yield the key and the outcome of every job, in the order in which they end.

        Processes are started when they are needed, and stay for later jobs. Where the caller stops
        asking, jobs that have not begun are dropped, and those that have are ended.
        """
        busy: set[Process] = set()
        grouped = sorted(jobs, key=lambda job: sorted(job.owners))
        with ThreadPoolExecutor(self.size) as threads:
            futures = {threads.submit(self._carry_out, job, busy): job.key for job in grouped}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
                for process in [*busy]:
                    process.connection.close()  # which ends it

    def _carry_out(self, job: Job[Key, T], busy: set[Process]) -> Outcome[T]:
        """Return the outcome of a job, in an idle process or a new one, which has this process's
        environment with one thread.

        Changes `busy` in place: the process is in it meanwhile, and idle afterwards, unless it has
        ended.
        """
        with self.lock:
            process, outgoing = self._choose(job.owners)
            self.n_busy += 1
        try:
            if outgoing:
                outgoing.end()
            if not process:
                # Of a function with some arguments given, what it calls.
                called = getattr(job.function, "func", job.function).__module__
                process = (
                    self.start()
                    if self.start
                    else Process(work, env=os.environ | ONE_THREAD, module=self.module or called)
                )
            process.owners = job.owners
            busy.add(process)
            return _await_outcome(process, (job.function, job.arguments), job.timeout)
        finally:
            with self.lock:
                self.n_busy -= 1
                if process:
                    busy.discard(process)
                    if process.code is None:
                        self.idle.append(process)

    def _choose(self, owners: Owners) -> tuple[Process | None, Process | None]:
        """Take an idle worker that may run the code of some owners and return it, or None for a new
        one, and the one that must end to make room for it, or None.

        Changes `idle`: neither is in it any more.
        """
        is_full = len(self.idle) + self.n_busy >= self.size
        # One that has run built-in code alone may run anything, but then nothing built-in again.
        accepted_owners = [owners, BUILT_IN] if is_full else [owners]
        for accepted in accepted_owners:
            for process in self.idle:
                if process.owners == accepted:
                    self.idle.remove(process)
                    return process, None
        return None, self.idle.pop(0) if is_full and self.idle else None

    def end(self) -> None:
        """End all idle workers, each of which gets a second to end by itself."""
        # A worker ends by itself when nothing more comes.
        while self.idle:
            process = self.idle.pop()
            process.talk.close()
            process.wait(1.0)
            process.end()


def _await_outcome(process: "Process | Copy[T]", message: object, timeout: float) -> Outcome[Any]:
    """Send a process a job and return the outcome, with the parts that were kept; the process is
    ended where the job takes too long, and the status is ``timeout``.

    The time counts from when the job has started, for which it gets `START` seconds more. A process
    that ends meanwhile gives the status ``error``.
    """
    parts: list[object] = []
    try:
        _send(process.talk, message)
        deadline = monotonic() + START + timeout
        while process.talk.poll(min(deadline - monotonic(), MOST_WAITING)):
            kind, content = _receive(process.talk)
            if kind == "started":
                deadline = monotonic() + timeout
            elif kind == "part":
                parts.append(content)
            else:
                outcome: Outcome[Any] = content
                return outcome._replace(parts=parts)
        process.end()
        return Outcome(None, *failure(_OutOfTime(timeout)), parts)
    except (EOFError, OSError, pickle.UnpicklingError):
        # It closes its connection last: it has ended, and has its code.
        return Outcome(None, *_death(process.end()), parts)


class InProcess(_Calls):
    """This process as the only worker, for objects that no other could make: a job is out of time
    only when it keeps a part.
    """

    def run(self, jobs: Iterable[Job[Key, T]]) -> Generator[tuple[Key, Outcome[T]]]:
        """Yield the key and the outcome of every job."""
        for job in jobs:
            yield job.key, _carry_out_here(job)


def _carry_out_here(job: Job[Key, T]) -> Outcome[Any]:
    """Return the outcome of a job that is carried out in this process: an error is its status, and
    it is out of time if it keeps a part too late.
    """
    parts: list[object] = []
    end = monotonic() + job.timeout

    def keep_in_time(kind: str, content: object) -> None:
        """Keep a part of the result, or raise that the job is out of time."""
        if kind == "part":
            parts.append(content)
            if monotonic() > end:
                raise _OutOfTime(job.timeout)

    token = _SEND_TO_PARENT.set(keep_in_time)
    try:
        return Outcome(job.function(*job.arguments), parts=parts)
    except Exception as error:  # noqa: BLE001  # whatever breaks in a job is its outcome
        return Outcome(None, *failure(error), parts)
    finally:
        _SEND_TO_PARENT.reset(token)


def work() -> None:
    """Carry out jobs of the process that asked for this one, and send their outcomes, errors too,
    until it closes the connection: the standard input, which becomes the null device for the jobs.
    """
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Unpickling imports what is needed, which takes seconds.
    _serve(connection, pickle.loads)


def _serve(
    connection: Connection, unpack: Callable[[bytes], tuple[Callable[..., object], Any]]
) -> None:
    """Carry out every job that comes, a function and its arguments when it is unpacked, and send
    ``started``, the parts kept and the outcome, until the connection is closed.

    Whatever ends a job, SystemExit too, is its outcome. From now on `keep` and `restart_clock` send
    to this connection.
    """

    def tell(kind: str, content: object) -> None:
        # So it stays: the two ends may be of two commits.
        _send(connection, (kind, content))

    _SEND_TO_PARENT.set(tell)
    with suppress(*_CLOSED):
        while True:
            job = connection.recv_bytes()
            try:
                function, arguments = unpack(job)
                tell("started", None)
                tell("done", Outcome(function(*arguments)))
            except BaseException as error:  # noqa: BLE001  # whatever ends a job is its outcome
                tell("done", Outcome(None, *failure(error)))


def _death(code: int | None) -> tuple[str, str]:
    """Return the status ``error`` and the reason for a process that ended in the middle of a job:
    its signal, which may mean that memory ran out, or its exit code.
    """
    if code == -SIGKILL:
        # The system kills what takes too much memory, and so may anybody.
        return "error", "the process was killed (out of memory?): it got signal 9"
    if code and code < 0:
        return "error", f"the process was ended by signal {-code} ({strsignal(-code)})"
    return "error", f"the process ended with exit code {code}"


def return_freed_memory(*, at_once: bool = False) -> None:
    """Give memory that was freed back to the system: what finds it in the heap of a copy seems to
    need none.

    With `at_once`, blocks larger than 128 KiB are also given back as soon as they are freed from
    now on. By default the GNU C library raises this limit to the size of the largest block that was
    ever freed.
    """
    library = ctypes.CDLL(None)
    with suppress(AttributeError):  # another C library
        library.malloc_trim(0)
        if at_once:
            library.mallopt(-3, 1 << 17)  # M_MMAP_THRESHOLD


def limit_memory() -> None:
    """Let this process take no more than half of the machine's memory: what asks for more gets a
    MemoryError, and nothing else on the machine suffers.

    The limit (RLIMIT_DATA) is lasting, and holds for what is started from now on; a lower one
    stays.
    """
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    with suppress(ValueError):  # the limit is lower already
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


class Copy(_Ending, Generic[T]):
    """A copy of this process that calls a function whenever it is asked; it ends when the context
    is left, or with this process: on Linux at once, elsewhere when its call has ended.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self.talk, far_end = Pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of other threads, whose locks a copy would find locked: those here
            # only wait.
            warnings.simplefilter("ignore", DeprecationWarning)
            #: 0 in the copy itself, and once it has ended.
            self.process_id = os.fork()
        if not self.process_id:
            try:
                _set_process_option(END_WITH_PARENT, SIGKILL)
                self.talk.close()
                _serve(far_end, lambda arguments: (function, pickle.loads(arguments)))
            finally:
                # Neither the caller's handlers nor its buffers are this copy's to run and to flush.
                os._exit(1)
        far_end.close()

    def ask(self, *arguments: object, timeout: float = MOST_WAITING) -> Outcome[T]:
        """Return the outcome of the function for these arguments, which are pickled; a call that
        takes too long ends the copy.
        """
        return _await_outcome(self, arguments, timeout)

    def end(self) -> int:
        """End the copy and return its exit code, the negative number of a signal; 0 if it was ended
        before.
        """
        self.talk.close()
        if not self.process_id:
            return 0
        os.kill(self.process_id, SIGKILL)
        _, status = os.waitpid(self.process_id, 0)
        self.process_id = 0
        return os.waitstatus_to_exitcode(status)


def run_in_copy(function: Callable[[*Arguments], T], *arguments: *Arguments) -> Outcome[T]:
    """Return the outcome of one call in a copy of this process."""
    with Copy(lambda: function(*arguments)) as copy:
        return copy.ask()


class _Control:
    """The connection to this process's supervisor, which is started when it is first needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        #: There is one as soon as there is a process.
        self.socket: socket.socket

    def hand_over(self, descriptors: Sequence[int]) -> None:
        """Ask the supervisor for a process: send the connection that it belongs to, and its 0, 1,
        ... Start a supervisor where none lives.
        """
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self._start()
            try:
                socket.send_fds(self.socket, [b"."], descriptors)
            except OSError:  # it is being killed
                self._start()
                socket.send_fds(self.socket, [b"."], descriptors)

    def _start(self) -> None:
        """Start a supervisor, a Python of its own with one thread and this process's module path,
        which ends when this process does; one that was killed is replaced.
        """
        if self.process:
            self.socket.close()
            self.process.wait()
        self.socket, far_end = socket.socketpair()
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; from pudle import workers;"
            f" workers._supervise({far_end.fileno()})"
        )
        # Ctrl-C in the terminal reaches this process alone, which decides.
        with far_end:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[far_end.fileno()],
                env=os.environ | ONE_THREAD,
            )

    def close(self) -> None:
        if self.process:
            self.socket.close()
            self.process.wait()

    def forget(self) -> None:
        """Leave the supervisor to the process that this one is a copy of: the next process here
        starts another.
        """
        if self.process:
            self.socket.close()
            self.process.returncode = 0  # or it would warn that nobody waits for it
        self.lock, self.process = threading.Lock(), None


_CONTROL = _Control()
atexit.register(_CONTROL.close)
os.register_at_fork(after_in_child=_CONTROL.forget)


def _supervise(descriptor: int) -> None:
    """Start what a parent asks for at the other end of a socket, a guard and a process for each
    request, until it has ended; then end this process.

    Of modules it imports those of this package alone, and it ignores SIGINT and SIGTERM.
    """
    control = socket.socket(fileno=descriptor)
    for number in (SIGINT, SIGTERM):
        signal(number, SIG_IGN)
    _set_process_option(ADOPT_ORPHANS, 1)
    # A child that ends is a byte to read, so that one wait is for both.
    alarm, wakes = socket.socketpair()
    wakes.setblocking(False)
    set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal(SIGCHLD, lambda *_: None)
    guards: set[int] = set()
    while True:
        ready, _, _ = select.select([control, alarm], [], [])
        if alarm in ready:
            alarm.recv(MOST_OPEN)
            _end_orphans(guards)
        if control not in ready:
            continue
        message, descriptors, *_ = socket.recv_fds(control, 1, 8)
        if not message:
            # Nothing is left to do here, which takes Python a while once torch is loaded.
            os._exit(0)
        connection = Connection(descriptors[0])
        with connection, suppress(*_CLOSED):  # the parent has just been killed
            request: _Request = _receive(connection)
            # Of this package alone: no other code may run here.
            if request.module.partition(".")[0] == __package__:
                _load(request.module, control)
            if guard := os.fork():
                guards.add(guard)
            else:
                set_wakeup_fd(-1)
                for end in (control, alarm, wakes):
                    end.close()
                _guard(connection, descriptors[1:], request)
        for stream in descriptors[1:]:
            os.close(stream)


def _load(module: str, control: socket.socket) -> None:
    """Import a module, which may take seconds; if the parent ends meanwhile, end this process.
    Errors are suppressed.
    """
    if module in sys.modules:
        return
    is_loaded = threading.Event()

    def watch() -> None:
        """End this process if the parent ends, as long as the module is not loaded."""
        poll = select.poll()
        poll.register(control, 0)  # which still tells that the other end is closed
        while not is_loaded.is_set():
            if poll.poll(50):
                os._exit(0)

    thread = threading.Thread(target=watch)
    thread.start()
    with suppress(Exception):  # the process itself will say what is wrong
        importlib.import_module(module)
    # A copy of this process would have no such thread, and maybe a lock of it.
    is_loaded.set()
    thread.join()


def _end_orphans(guards: set[int]) -> None:
    """Wait for children that have ended, kill what guards that were killed have left, and remove
    all guards that have ended from `guards`.
    """
    orphaned = set()
    with suppress(ChildProcessError):
        while True:
            number, status = os.waitpid(-1, os.WNOHANG)
            if not number:
                break
            # A guard ends by itself when nothing is left to guard.
            if number not in guards or status:
                orphaned.add(number)
            guards.discard(number)
    if orphaned:
        for number in _related({os.getpid(), *orphaned}, spared=guards):
            with suppress(OSError):
                os.kill(number, SIGKILL)


def _set_process_option(option: int, value: int) -> bool:
    """Tell Linux how this process wishes to be treated, and return whether it will be; another
    system does not.
    """
    with suppress(AttributeError):
        control = ctypes.CDLL(None).prctl
        return not control(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))
    return False


def _guard(connection: Connection, streams: Sequence[int], request: _Request) -> None:
    """Lead a session in which a process does what is asked for, and end it when the process ends or
    the connection is closed.

    It never returns: this process ends, after sending the exit code.
    """

    def watch() -> None:
        with suppress(*_CLOSED):
            connection.recv_bytes()
        _kill_related()

    try:
        os.setsid()
        signal(SIGCHLD, SIG_DFL)
        adopts, guard = _set_process_option(ADOPT_ORPHANS, 1), os.getpid()
        if not (process := os.fork()):
            _set_process_option(END_WITH_PARENT, SIGKILL)
            if os.getppid() == guard:  # or it was killed before the wish
                _become(streams, request)
            os._exit(1)
        threading.Thread(target=watch, daemon=True).start()
        number = 0
        # Others that end meanwhile are orphans.
        while number != process:
            number, status = os.waitpid(-1, 0)
        _end_related(adopts)
        _send(connection, os.waitstatus_to_exitcode(status))
    finally:
        os._exit(0)


def _become(streams: Sequence[int], request: _Request) -> None:
    """Do what is asked for, as a process that does nothing else: it becomes the command, or makes
    the call and ends. It never returns.

    Before that it takes over the streams, closes all other descriptors, and gets the request's
    folder, environment and, for a call, module path.
    """
    code = 1
    try:
        signal(SIGTERM, SIG_DFL)
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
        os.closerange(3, MOST_OPEN)
        os.chdir(request.cwd)
        if isinstance(request.call, list):
            os.execvpe(request.call[0], request.call, request.env)
        os.environ.clear()
        os.environ.update(request.env)
        sys.path[:] = request.path
        importlib.invalidate_caches()
        pickle.loads(request.call)()
        code = 0
    except OSError as error:
        os.write(2, f"{error.strerror or error}\n".encode())
        code = NOT_STARTED
    finally:
        os._exit(code)


def _end_related(adopts: bool) -> None:
    """End all other processes of this one's session, which it leads, and its descendants, and wait
    for them, at most `MOST_LOOKING` seconds.

    Where it adopts orphans, the last descendant is a child, so that nothing need be looked for.
    """
    deadline = monotonic() + MOST_LOOKING
    while monotonic() < deadline:
        children = True
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            children = False
        if not children and (adopts or not _related({os.getpid()})):
            return
        _kill_related()
        sleep(LOOK)


def _kill_related() -> None:
    """Kill all other processes of this one's session, which it leads, and its descendants, without
    waiting for them.
    """
    for number in _related({os.getpid()}):
        with suppress(OSError):
            os.kill(number, SIGKILL)


class _LivingProcess(NamedTuple):
    """A living process: its number, its parent's and its session's."""

    number: int
    parent: int
    session: int


def _related(roots: set[int], spared: Iterable[int] = ()) -> set[int]:
    """Return the living processes that descend from some, or are in the sessions that these lead;
    neither these themselves nor what is spared, with what descends from it.
    """
    children: dict[int, list[int]] = {}
    processes = list(_living())
    for process in processes:
        children.setdefault(process.parent, []).append(process.number)
    excluded = roots | {*spared}
    related = {process.number for process in processes if process.session in roots} - excluded
    waiting = [*roots, *related]
    while waiting:
        new = {*children.get(waiting.pop(), ())} - excluded - related
        related |= new
        waiting += new
    return related


def _living() -> Generator[_LivingProcess]:
    """Yield the living processes of this machine, as far as they can be seen: by /proc, or
    elsewhere by the program ps, which is run.
    """
    if os.path.isdir("/proc/self"):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                # Behind its name, which may hold anything: state, parent, group and session.
                text = Path("/proc", name, "stat").read_text(errors="replace")
                state, parent, _, session, *_ = text.rpartition(")")[2].split()
                if state != "Z":
                    yield _LivingProcess(int(name), int(parent), int(session))
        return
    command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
        output, _ = listing.communicate()
    for line in output.splitlines():
        number, parent, state = line.split()
        with suppress(OSError):
            if int(number) != listing.pid and not state.startswith("Z"):
                yield _LivingProcess(int(number), int(parent), os.getsid(int(number)))
