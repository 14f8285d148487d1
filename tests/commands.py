"""The one way in which tests run the program `pudle`.

- `call` runs it in this process, with its output and exit code: nearly every test needs no more.
- `run` and `start` run it in a process of its own, for tests of signals, kills, plug-ins and
  environments: a copy of a server that has imported torch and the program's commands already, so it
  begins in hundredths of a second. `start` returns at once, with `pid`, `send` and `wait`.

All take the program's arguments, whatever `str` makes of them, and the working folder. `path` is a
folder of plug-ins, see `plugin.write_plugin`; `env` holds further variables of the environment.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pudle import cli, names

SECONDS = 300.0
#: What the server imports, so that its copies need not, besides what pudle itself registers.
PRELOADED = ("pudle.reports.load", "pudle.measuring.run", "pudle.conformance.command")
GROUPS = ("estimators", "datasets", "profiles", "experiments", "commands")


def call(*arguments, cwd: Path | str = ".") -> subprocess.CompletedProcess[str]:
    """Run the program in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli.run([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


class Started:
    """The program in a process of its own: its number, and its exit code when it has ended."""

    def __init__(self, arguments, cwd: Path | str, environment: Mapping[str, str]) -> None:
        self.arguments = arguments
        self.out, self.err = (tempfile.TemporaryFile("w+") for _ in range(2))
        self.reports, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = [[*map(str, arguments)], str(cwd), dict(environment)]
        files = [self.out.fileno(), self.err.fileno(), theirs.fileno()]
        socket.send_fds(_server(), [json.dumps(request).encode()], files)
        theirs.close()
        self.pid = int(self._report(SECONDS))

    def _report(self, seconds: float) -> str:
        self.reports.settimeout(seconds)
        return self.reports.recv(100).decode()

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """Return the exit code and the output when the process has ended; after the time it is
        killed.
        """
        try:
            code = int(self._report(seconds))
        except TimeoutError:
            self.send(signal.SIGKILL)
            raise
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        self.reports.close()
        return subprocess.CompletedProcess(self.arguments, code, *texts)


def start(*arguments, cwd: Path | str = ".", path=None, env: Mapping[str, str] | None = None):
    """Start the program in a process of its own."""
    more = {"PYTHONPATH": str(path)} if path else {}
    return Started(arguments, cwd, {**os.environ, **more, **(env or {})})


def run(*arguments, seconds: float = SECONDS, **options) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own to its end."""
    return start(*arguments, **options).wait(seconds)


def python(code: str, *arguments, cwd: Path | str = ".") -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own, which has imported nothing; few tests need that."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS)


@functools.cache
def _server() -> socket.socket:
    """Start the server, which ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(theirs.fileno())]
    server = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
    theirs.close()
    atexit.register(lambda: (ours.close(), server.wait()))
    return ours


def serve(line: socket.socket) -> None:
    """Fork a copy for each request, which forks the program and reports its number and its end."""
    for module in PRELOADED:
        __import__(module)
    for point in (point for group in GROUPS for point in names.points(group)):
        if names.owner(point) == names.PACKAGE:
            point.load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, *_ = socket.recv_fds(line, 1 << 20, 3)
        if not message:
            return
        if os.fork() == 0:
            line.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            *streams, report = files
            if (program := os.fork()) == 0:
                os.close(report)
                become(*json.loads(message), streams)
            os.write(report, str(program).encode())
            code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
            os.write(report, str(code).encode())
            os._exit(0)
        for file in files:
            os.close(file)


def become(arguments: list[str], cwd: str, environment: dict[str, str], streams: list[int]) -> None:
    """Be the program, with its arguments, its working folder, its environment and its output."""
    os.setsid()
    for number, file in enumerate(streams, start=1):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["pudle", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        serve(requests)
