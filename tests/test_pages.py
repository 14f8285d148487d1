"""Every block and command of README and site is run; those that take minutes at night, and those
that take hours parsed.
"""

import json
import re
import tomllib

import pytest
import yaml
from support.page.document_runner import run_page
from support.page.documents import PAGES, Block, blocks, indented, target_exists
from support.paths import ROOT
from support.processes.commands import SERVER
from support.processes.repositories import repository

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


def run(page, folder, leave_out):
    """Run a page in a folder, and return what went wrong, or an empty text."""
    # Measurements are kept per commit.
    repository(folder)
    return run_blocks([block for block in blocks(page) if block.mark not in leave_out], folder)


def run_blocks(chosen, folder):
    """Run blocks in a folder, and return what went wrong, or an empty text."""
    said = folder / ".said"
    process = SERVER.Process(target=run_page, args=(folder, chosen, said))
    process.start()
    process.join()
    return said.read_text() if said.exists() else f"it ended with exit code {process.exitcode}"


#: Pages that take the longest: they run at night.
LONG = {
    f"docs/{name}.md"
    for name in "add_an_estimator extending faq gate learning own_data scale".split()
}
#: Pages with something to run.
RUN = [
    pytest.param(page, marks=pytest.mark.nightly if page in LONG else pytest.mark.slow)
    for page in PAGES
    if any(block.language in ("python", "console") and not block.mark for block in blocks(page))
]
SLOW = [page for page in PAGES if any(block.mark == "nightly" for block in blocks(page))]


@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page, tmp_path):
    said = run(page, tmp_path, ("not run", "nightly"))
    assert not said, said
    if page == "docs/add_an_estimator.md":
        report = tmp_path / "results" / "quick" / "report"
        assert re.search(r"^\|.*random_window", (report / "report.md").read_text(), re.MULTILINE)


@pytest.mark.nightly
@pytest.mark.parametrize("page", SLOW)
def test_slow_blocks_run(page, tmp_path):
    said = run(page, tmp_path, ("not run",))
    assert not said, said


@pytest.mark.parametrize(("printed", "wrong"), [("error 0.25 ...", ""), ("error 0.26 ...", "0.26")])
def test_an_output_that_the_python_before_it_does_not_print_is_noticed(tmp_path, printed, wrong):
    page = [
        Block("python", "", "print('error', 0.25, 3)", 1, "", ""),
        Block("text", "", f"{printed}\n", 3, "", ""),
    ]
    said = run_blocks(page, tmp_path)
    assert bool(said) == bool(wrong) and wrong in said


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
