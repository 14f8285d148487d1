"""Every block and command of README and site is run; those that take minutes at night, and those
that take hours parsed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from pages import PAGES, blocks, indented, target_exists
from paths import ROOT
from repositories import git

from pudle.cli import pudle as program

EXAMPLE = ROOT / "examples" / "pudle-example"
#: Blocks that are read by a parser, or by nobody.
PARSERS = {
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "json": json.loads,
    "text": str,
    "{toctree}": str,
}
#: From an empty file to a row in the report.
LINES = 30


@pytest.fixture(scope="module")
def runner():
    """The process that runs pages, one after the other."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
    variables |= {
        f"GIT_{who}_{what}": "someone@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    command = [sys.executable, Path(__file__).with_name("page_runner.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        yield process
        process.stdin.close()


def run(page: str, runner, folder: Path, leave_out: tuple[str, ...]) -> str:
    # Measurements are kept per commit.
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    chosen = [block for block in blocks(page) if block.mark not in leave_out]
    content = [
        dataclasses.asdict(block)
        | {"commands": [dataclasses.astuple(each) for each in block.commands]}
        for block in chosen
    ]
    runner.stdin.write(json.dumps({"folder": str(folder), "blocks": content}) + "\n")
    runner.stdin.flush()
    return json.loads(runner.stdout.readline())


#: Pages with something to run.
RUN = [
    page
    for page in PAGES
    if any(block.language in ("python", "console") and not block.mark for block in blocks(page))
]
SLOW = [page for page in PAGES if any(block.mark == "nightly" for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page, runner, tmp_path):
    said = run(page, runner, tmp_path, ("not run", "nightly"))
    assert not said, said
    if page == "docs/add_an_estimator.md":
        report = tmp_path / "results" / "quick" / "report"
        assert re.search(r"^\|.*random_window", (report / "report.md").read_text(), re.MULTILINE)


@pytest.mark.nightly
@pytest.mark.parametrize("page", SLOW)
def test_slow_blocks_run(page, runner, tmp_path):
    said = run(page, runner, tmp_path, ("not run",))
    assert not said, said


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_known_kind_and_parses(page):
    for block in blocks(page):
        assert block.language in ("python", "console", *PARSERS), (
            f"{page}, line {block.line}: {block.language}"
        )
        if block.language in PARSERS:
            PARSERS[block.language](block.text)
        elif block.language == "python":
            compile(block.text, page, "exec")
        assert block.mark != "not run" or block.why, (
            f"{page}, line {block.line} is not run, for no reason"
        )


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_not_run_is_one_that_the_program_takes(page):
    """Its commands, options and their values are those of the program, and its targets those of the
    Makefile.
    """
    left_out = [block for block in blocks(page) if block.language == "console" and block.mark]
    for each in [one for block in left_out for one in block.commands] + indented(page):
        name, *rest = each.words
        if name == "make":
            targets = [word for word in rest if "=" not in word]
            assert all(map(target_exists, targets)), f"{page}: make {targets}"
        elif name == "pudle" and "--help" not in rest:
            with program.make_context(
                "pudle", rest[:1] or ["--help"], resilient_parsing=True
            ) as context:
                command = program.get_command(context, rest[0])
                assert command is not None, f"{page}: pudle {rest[0]}"
                command.make_context(rest[0], rest[1:], parent=context)


def test_the_example_is_what_the_tutorial_builds():
    titled = {
        block.title: block.text for block in blocks("docs/add_an_estimator.md") if block.title
    }
    for name in ("random_window.py", "pyproject.toml"):
        assert (EXAMPLE / name).read_text() == titled[name]


def test_a_new_estimator_takes_few_lines():
    lines = [
        line for line in (EXAMPLE / "random_window.py").read_text().splitlines() if line.strip()
    ]
    assert len(lines) <= LINES
