"""The tutorial's code is run, block by block, in an environment of its own; and the example package is what it builds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
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


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(tmp_path)


def test_the_tutorial_runs(environment):
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
    rows = (environment.folder / "results" / "quick" / "report" / "report.md").read_text()
    assert re.search(r"^\|.*random_window", rows, re.MULTILINE)


def test_the_example_is_what_the_tutorial_builds():
    titled = {block.title: block.text for block in blocks() if block.title}
    for name in ("random_window.py", "pyproject.toml"):
        assert (EXAMPLE / name).read_text() == titled[name]


def test_a_new_estimator_takes_few_lines():
    lines = [line for line in (EXAMPLE / "random_window.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= LINES


def test_the_example_package_is_listed_run_and_reported(environment):
    """Without a change to this repository: the package is built from a copy, and the repository's files are untouched."""
    before = {path: path.stat().st_mtime_ns for path in EXAMPLE.rglob("*")}
    shutil.copytree(EXAMPLE, environment.folder / "package")
    assert environment.install("./package").returncode == 0
    pudle = [str(environment.python), "-m", "pudle"]
    listed = environment.run(*pudle, "list", "estimators")
    assert "random_window" in listed.stdout and "stop=0.05, seed=0" in listed.stdout
    case = "sparse_gaussian-ista-lasso"
    # Alone, for the others' scores are not what this is about.
    measured = environment.run(
        *pudle, "run", "--scores-only", "--case", case, "--home", "results", "--only", "--estimator", "random_window"
    )
    assert measured.returncode == 0, measured.stderr
    assert "1 of 1 scores computed now, 1 ok" in measured.stdout
    reported = environment.run(*pudle, "report", "--home", "results")
    assert reported.returncode == 0, reported.stderr
    page = environment.folder / reported.stdout.splitlines()[-1]
    assert page.suffix == ".html" and "random_window" in page.read_text()
    assert before == {path: path.stat().st_mtime_ns for path in EXAMPLE.rglob("*")}


def test_an_installed_plug_in_is_measured_unasked(environment):
    assert environment.install(str(shutil.copytree(EXAMPLE, environment.folder / "package"))).returncode == 0
    done = environment.run(str(environment.python), "-c", "from pudle.measuring.selection import plugins; print(plugins())")
    assert "'random_window'" in done.stdout, done.stderr
