"""The one way in which tests run the program `pudle`.

- `call` runs it in this process, with its output and exit code: nearly every test needs no more.
- `run` and `start` run it in a process of its own, for tests of signals, kills, plug-ins and
  environments: a copy of a server that has imported torch and most of the package already, so it
  begins in hundredths of a second. `start` returns at once, with `pid`, `send` and `wait`.

All take the program's arguments, whatever `str` makes of them, and the working folder. `path` is a
folder of plug-ins, see `plugin.write_plugin`; `env` holds further variables of the environment.
"""

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess

from pudle import cli, names
from pudle.workers import InProcess, Pool

SECONDS = 300.0
#: Not the commands: a module of theirs lists the profiles when it is imported, and a page installs
#: its own first.
GROUPS = ("estimators", "datasets", "profiles", "experiments")
#: The server, and what it imports, so that its copies need not.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["pudle.reports.load", "pudle.measuring.execution"]
    + [
        point.module
        for group in GROUPS
        for point in names.points(group)
        if names.owner(point) == names.PACKAGE
    ]
)


class InThisProcess(InProcess, Pool):
    """A pool of `pudle check` that starts no process."""


def call(*arguments, cwd="."):
    """Run the program in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli.run([*map(str, arguments)])
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


class Started:
    """The program in a process of its own: its number, and its exit code when it has ended."""

    def __init__(self, arguments, cwd, environment):
        self.arguments = [*map(str, arguments)]
        self.folder = tempfile.TemporaryDirectory()
        self.files = [Path(self.folder.name) / name for name in ("out", "err")]
        request = self.arguments, str(cwd), dict(environment), self.files
        self.process = SERVER.Process(target=become, args=request)
        self.process.start()
        self.pid = self.process.pid

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds=SECONDS):
        """Return the exit code and the output when the process has ended; after the time it is
        killed.
        """
        self.process.join(seconds)
        if (code := self.process.exitcode) is None:
            self.process.kill()
            raise TimeoutError(f"{self.arguments} took more than {seconds} s")
        with self.folder:
            return CompletedProcess(
                self.arguments, code, *(file.read_text() for file in self.files)
            )


def start(*arguments, cwd=".", path=None, env=None):
    """Start the program in a process of its own."""
    more = {"PYTHONPATH": str(path)} if path else {}
    return Started(arguments, cwd, {**os.environ, **more, **(env or {})})


def run(*arguments, seconds=SECONDS, **options):
    """Run the program in a process of its own to its end."""
    return start(*arguments, **options).wait(seconds)


def python(code, *arguments):
    """Run code in a Python of its own, which has imported nothing; few tests need that."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def become(arguments, cwd, environment, files):
    """Be the program, with its arguments, its working folder, its environment and its output."""
    os.setsid()
    for number, file in enumerate([os.devnull, *files]):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["pudle", *arguments]
    sys.stdin, sys.stdout, sys.stderr = (open(number, "rw"[number > 0]) for number in range(3))
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


def run_alone(*arguments, cwd=".", **environment):
    """Run the program in a Python of its own, as a shell does, to its end."""
    command = [sys.executable, "-m", "pudle", *map(str, arguments)]
    options = {"capture_output": True, "text": True, "timeout": SECONDS}
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, **options)
