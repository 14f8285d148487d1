"""The tutorial's code is run, block by block, in an environment of its own; and the example package is what it builds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from paths import ROOT

TUTORIAL = ROOT / "docs" / "add_an_estimator.md"
EXAMPLE = ROOT / "examples" / "pudle-example"
#: From an empty file to a row in the report.
LINES = 30


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is, the file it is to be saved as, and its text."""

    language: str
    title: str
    text: str


def blocks() -> list[Block]:
    pattern = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
    found = [Block(language, title, text) for language, title, text in pattern.findall(TUTORIAL.read_text())]
    assert len(found) == TUTORIAL.read_text().count("\n```") / 2, "a fence that the pattern does not read"
    return found


class Environment:
    """A fresh environment that borrows this one's packages, and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        home = folder / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = home / scripts / "python"
        (packages,) = home.glob("[Ll]ib/**/site-packages")
        # addsitedir, because an editable install rests on .pth files of its own, which a mere path would not read.
        borrowed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        (packages / "borrowed.pth").write_text(
            "".join(f"import site; site.addsitedir({path!r})\n" for path in dict.fromkeys(borrowed))
        )
        self.variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=300)

    def install(self, package: str) -> subprocess.CompletedProcess[str]:
        # This environment's pip, for the fresh one has none; neither index nor isolated build, for there may be no network.
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
        return self.run(sys.executable, "-m", "pip", "--python", str(self.python), "install", *options, package)

    def console(self, line: str) -> str:
        """Run one line of the tutorial; the shell's redirection is the only thing of a shell that it uses."""
        words = shlex.split(line)
        target = None
        if ">" in words:
            words, target = words[: words.index(">")], words[-1]
        if words[:2] == ["pip", "install"]:
            done = self.install(*words[2:])
        else:
            assert words[0] in ("pudle", "python"), f"the tutorial calls {words[0]}"
            start = [str(self.python), *(["-m", "pudle"] if words[0] == "pudle" else [])]
            done = self.run(*start, *words[1:])
        failed_check = words[:2] == ["pudle", "check"] and done.returncode == 1
        assert done.returncode == 0 or failed_check, f"{line}: {done.stderr}"
        if target:
            (self.folder / target).write_text(done.stdout)
        return "" if target else done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    """An environment in which all of the tutorial was run."""
    environment = Environment(tmp_path_factory.mktemp("tutorial"))
    before = {path: path.stat().st_mtime_ns for path in EXAMPLE.rglob("*")}
    python = ""
    for block in blocks():
        if block.title:
            (environment.folder / block.title).write_text(block.text)
        elif block.language == "python":
            # Later blocks go on from earlier ones.
            python += block.text
            done = environment.run(str(environment.python), "-c", python)
            assert done.returncode == 0, done.stderr
        elif block.language == "console":
            for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
                output = environment.console(command)
                for line in expected.splitlines():
                    assert line == "..." or line in output, f"{command}: {line!r} is not in\n{output}"
    assert before == {path: path.stat().st_mtime_ns for path in EXAMPLE.rglob("*")}, "the example was changed"
    return environment


@pytest.mark.slow
def test_the_tutorial_ends_with_a_row_in_the_report(environment):
    report = environment.folder / "results" / "quick" / "report"
    assert re.search(r"^\|.*random_window", (report / "report.md").read_text(), re.MULTILINE)
    assert "random_window" in (report / "report.html").read_text()


def test_an_installed_plugin_is_listed_with_its_options_and_measured_by_default(environment):
    listed = environment.run(str(environment.python), "-m", "pudle", "list", "estimators")
    assert "random_window" in listed.stdout and "stop=0.05, seed=0" in listed.stdout
    done = environment.run(str(environment.python), "-c", "from pudle.measuring.selection import plugins; print(plugins())")
    assert "'random_window'" in done.stdout, done.stderr


def test_the_example_is_what_the_tutorial_builds():
    titled = {block.title: block.text for block in blocks() if block.title}
    for name in ("random_window.py", "pyproject.toml"):
        assert (EXAMPLE / name).read_text() == titled[name]


def test_a_new_estimator_takes_few_lines():
    lines = [line for line in (EXAMPLE / "random_window.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= LINES
