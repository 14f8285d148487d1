"""What runs the blocks of a page, in a process of its own, and every command in a copy of it.

What a page installs lies in its folder, so that no page sees another's.
"""

import contextlib
import io
import multiprocessing
import os
import re
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import torch

from pudle import cli


class Failed(Exception):
    """A block does not do what its page says."""


def in_copy(work):
    """Carry out work in a copy of this process, and return its exit code and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("out", "err")]
        process = multiprocessing.get_context("fork").Process(target=printing, args=(work, files))
        process.start()
        process.join()
        return process.exitcode, *(file.read_text() for file in files)


def printing(work, files):
    """Carry out work whose output goes to files."""
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
    work()


def run_pudle(words):
    sys.argv = ["pudle", *words]
    cli.main()


def run_python(words):
    sys.argv, sys.path[0] = list(words), os.getcwd()
    runpy.run_path(words[0], run_name="__main__")


def run_command(words):
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
        options = "--no-deps --no-build-isolation --no-index --quiet --upgrade --target".split()
        words = [sys.executable, "-m", "pip", "install", *options, target, *rest[1:]]
        sys.path.insert(1, target)
        os.environ["PYTHONPATH"] = target
    elif program not in ("git", "ls", "mkdir", "cat"):
        raise Failed(f"no test runs {program}: mark the block as not run, with the reason")
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def run_console(commands):
    for command in commands:
        status, output, errors = run_command(list(command.words))
        line = " ".join(command.words)
        if status != command.code:
            raise Failed(f"{line}: exit code {status}: {errors[-2000:] or output[-2000:]}")
        if command.target:
            Path(command.target).write_text(output)
        for each in command.expected:
            if each != "..." and not fits(each, output + errors):
                raise Failed(f"{line}: {each!r} is not in\n{output}{errors}")


def fits(line, output):
    """Return whether an output holds a line, in which `...` stands for anything."""
    return re.search(".*".join(map(re.escape, line.split("..."))), output) is not None


def check_printed(text, printed):
    """Raise Failed unless Python printed each line of a text block."""
    for line in text.splitlines():
        if not fits(line, printed):
            raise Failed(f"{line!r} is not in\n{printed}")


def run_page(folder, blocks, said):
    """Run the blocks of a page in a folder and in order, later Python going on from earlier Python,
    and write what went wrong, or an empty text. A text block right after Python is what it prints.
    """
    os.chdir(folder)
    who = {f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    os.environ |= dict.fromkeys(who, "someone@example.org")
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
    torch.set_num_threads(1)
    sys.path.insert(0, "")
    names, text, printed = {"__name__": "__main__"}, "", None
    for block in blocks:
        output, printed = printed, None
        try:
            if block.title:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                Path(block.title).write_text(block.text)
            elif block.language == "python":
                with contextlib.redirect_stdout(io.StringIO()) as stream:
                    exec(compile(block.text, "block", "exec", dont_inherit=True), names)
                printed = stream.getvalue()
            elif block.language == "text" and output is not None:
                check_printed(block.text, output)
            elif block.language == "console":
                run_console(block.commands)
        except BaseException:  # noqa: BLE001  # whatever a block raises is what the test reports
            text = f"line {block.line}: {traceback.format_exc()}"
            break
    said.write_text(text)
