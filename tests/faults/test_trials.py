"""Code that ends the process, or hangs, when it is loaded: it costs itself alone, by name, whoever
offers it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from plugin import write_package

import pudle
from pudle import registry, trial

GOOD = """
from dataclasses import dataclass
import pudle

@dataclass(frozen=True)
class Good(pudle.GradientEstimator):
    name, computes = "good", "heuristic"
    estimate = print
"""
#: The lines that a module begins with, and what is said about it.
ENDS = {
    "exit": (
        "import os\nos._exit(0)\n",
        "ends the whole process with exit code 0 when it is loaded",
    ),
    "abort": ("import os\nos.abort()\n", "ends the whole process by signal 6 when it is loaded"),
    "hang": (
        "import time\ntime.sleep(600)\n",
        "does not come to an end within 1 s when it is loaded",
    ),
    "child": (
        "import os, time\nif os.fork() == 0: time.sleep(600)\nos._exit(3)\n",
        "when it is loaded",
    ),
}


@pytest.fixture(autouse=True)
def tried(monkeypatch):
    """What the command line does at its start, with less patience."""
    registry.entries.cache_clear()
    monkeypatch.setenv(trial.VARIABLE, "{}")
    monkeypatch.setattr(trial, "SECONDS", 1.0)
    yield
    registry.entries.cache_clear()
    for name in ("end_plugin", "good_plugin"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ENDS)
def test_a_plugin_that_would_end_or_stall_the_program_costs_itself_alone(
    name, tmp_path, monkeypatch
):
    code, how = ENDS[name]
    points = "[pudle.estimators]\nbad = end_plugin:Good\n[pudle.datasets]\nbad = end_plugin:Good\n"
    monkeypatch.syspath_prepend(write_package(tmp_path / "bad", "end_plugin", code + GOOD, points))
    monkeypatch.syspath_prepend(
        write_package(
            tmp_path / "good", "good_plugin", GOOD, "[pudle.estimators]\ngood = good_plugin:Good"
        )
    )
    known = pudle.list_estimators()
    assert (
        "good" in known
        and "backprop" in known
        and "bad" not in known
        and "digits" in pudle.list_datasets()
    )
    for group in ("estimators", "datasets"):
        (line,) = registry.broken(group)
        assert line.startswith("plug-in 'bad' of end_plugin (end_plugin:Good) ") and how in line
        assert line.endswith(": repair or uninstall end_plugin")


@pytest.mark.parametrize("name", ENDS)
def test_a_file_that_would_end_or_stall_the_program_is_refused(name, tmp_path, monkeypatch):
    code, how = ENDS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(code + GOOD)
    with pytest.raises(pudle.SpecError) as caught:
        pudle.make_estimator("bad.py")
    assert (
        how in str(caught.value)
        and str(caught.value).startswith("bad.py ")
        and "\n" not in str(caught.value)
    )


def test_what_was_tried_is_not_tried_again_here_or_in_processes_that_this_one_starts(
    tmp_path, monkeypatch
):
    counted = tmp_path / "runs"
    (tmp_path / "mine.py").write_text(
        f"with open({str(counted)!r}, 'a') as file:\n    file.write('.')\n{GOOD}"
    )
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert pudle.make_estimator("mine.py").name == "good"
    # The trial, and this process.
    assert counted.read_text() == ".."
    code = "import pudle; pudle.make_estimator('mine.py')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ)
    assert counted.read_text() == "..."


def test_plain_python_tries_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv(trial.VARIABLE)
    monkeypatch.setattr(trial, "fork", lambda: pytest.fail("a copy was made"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GOOD)
    assert pudle.make_estimator("mine.py").name == "good"


def test_a_trial_prints_nothing_and_an_error_is_left_to_who_loads(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import os\nos.write(1, b'once\\n'); 1 / 0\n")
    with pytest.raises(
        pudle.SpecError, match=r"mine.py cannot be imported \(line 2\): ZeroDivisionError"
    ):
        pudle.make_estimator("mine.py")
    assert capfd.readouterr().out == "once\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["list", "--help"])
def test_the_program_lives_on_and_names_the_package(command, tmp_path):
    """The package of a command is not even imported for the help."""
    points = "[pudle.estimators]\nbad = end_plugin:Good\n[pudle.commands]\nbad = end_plugin:run\n"
    write_package(tmp_path / "bad", "end_plugin", "import os\nos._exit(0)\n", points)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "bad")}
    environment.pop(trial.VARIABLE)
    done = subprocess.run(
        [sys.executable, "-m", "pudle", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    if command == "--help":
        assert done.returncode == 0 and "bad" in done.stdout and "Commands" in done.stdout
        return
    assert done.returncode == 2 and "truncated" in done.stdout and "sparse_gaussian" in done.stdout
    assert done.stderr.startswith(
        "pudle: error: 1 broken: plug-in 'bad' of end_plugin (end_plugin:Good) ends the whole"
    )
    assert done.stderr.count("\n") == 1
