"""Script that runs the blocks of pages. It imports what takes seconds once, and runs every page and
every command in a copy.

Each line on stdin is a page as JSON: its folder and its blocks. The answer is a line: an empty
text, or what went wrong. What a page installs lies in its folder, so that no page sees another's.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy  # noqa: F401
import pandas  # noqa: F401
import torch  # noqa: F401

from pudle import cli


class Failed(Exception):
    """A block does not do what its page says."""


def in_copy(work) -> tuple[int, str, str]:
    """Carry out work in a copy of this process, and return its exit code and what it printed."""
    outputs = [tempfile.TemporaryFile("w+") for _ in (1, 2)]
    process = os.fork()
    if process == 0:
        code = 70
        try:
            for number, file in enumerate(outputs, start=1):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (
                open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2)
            )
            code = work()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001  # the copy must end here, whatever happens
            traceback.print_exc()
            code = 1
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code or 0)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    texts = []
    for file in outputs:
        with file:
            file.seek(0)
            texts.append(file.read())
    return status, *texts


def run_pudle(words):
    sys.argv = ["pudle", *words]
    cli.main()


def run_python(words):
    sys.argv, sys.path[0] = list(words), os.getcwd()
    runpy.run_path(words[0], run_name="__main__")


def run_command(words: list[str]) -> tuple[int, str, str]:
    program, *rest = words
    if program == "pudle":
        return in_copy(lambda: run_pudle(rest))
    if program == "python":
        return in_copy(lambda: run_python(rest))
    if program == "cd":
        os.chdir(rest[0])
        return 0, "", ""
    if words[:2] == ["pip", "install"]:
        target = str(Path(".installed").absolute())
        # Neither index nor isolated build, for there may be no network; what is installed here
        # serves as dependencies.
        options = [
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--quiet",
            "--upgrade",
            "--target",
            target,
        ]
        words = [sys.executable, "-m", "pip", "install", *options, *rest[1:]]
        sys.path.insert(1, target)
        os.environ["PYTHONPATH"] = target
    elif program not in ("git", "ls", "mkdir", "cat"):
        raise Failed(f"no test runs {program}: mark the block as not run, with the reason")
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def run_console(commands) -> None:
    for words, expected, code, target in commands:
        status, output, errors = run_command(words)
        line = " ".join(words)
        if status != code:
            raise Failed(f"{line}: exit code {status}: {errors[-2000:] or output[-2000:]}")
        if target:
            Path(target).write_text(output)
        for each in expected:
            if each != "..." and not fits(each, output + errors):
                raise Failed(f"{line}: {each!r} is not in\n{output}{errors}")


def fits(line: str, output: str) -> bool:
    """Return whether an output holds a line, in which `...` stands for anything."""
    return re.search(".*".join(map(re.escape, line.split("..."))), output) is not None


def run_page(blocks) -> str:
    """Run the blocks of a page in order; later Python goes on from earlier Python."""
    names = {"__name__": "__main__"}
    for block in blocks:
        where = f"line {block['line']}"
        try:
            if block["title"]:
                Path(block["title"]).parent.mkdir(parents=True, exist_ok=True)
                Path(block["title"]).write_text(block["text"])
            elif block["language"] == "python":
                if "" not in sys.path:
                    sys.path.insert(0, "")
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(block["text"], where, "exec", dont_inherit=True), names)
            elif block["language"] == "console":
                run_console(block["commands"])
        except Failed as error:
            return f"{where}: {error}"
        except BaseException:  # noqa: BLE001  # whatever a block raises is what the test reports
            return f"{where}: {traceback.format_exc()}"
    return ""


def main() -> None:
    for line in sys.stdin:
        page = json.loads(line)
        os.chdir(page["folder"])

        def work(page=page):
            said = run_page(page["blocks"])
            Path(page["folder"], ".said").write_text(said)
            return 0

        status, output, errors = in_copy(work)
        said = Path(page["folder"], ".said")
        text = (
            said.read_text()
            if said.exists()
            else f"the process ended with exit code {status}: {output}{errors}"
        )
        print(json.dumps(text), flush=True)


if __name__ == "__main__":
    main()
