"""Keys of stored results: which change to which source file outdates which results."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

from pudle import registry
from pudle.measuring import sources
from pudle.measuring.provenance import PACKAGE_FOLDERS
from pudle.measuring.store import SCORES

#: A plug-in package of several files, with an estimator and an experiment.
PLUGIN = {
    "__init__.py": "",
    "estimator.py": """
from dataclasses import dataclass
from pudle import Estimate, GradientEstimator
from .helper import WEIGHT


@dataclass(frozen=True)
class Mine(GradientEstimator):
    name = "mine"
    computes = "heuristic"

    def estimate(self, problem, algorithm, depth):
        return Estimate(WEIGHT * problem.theta, problem.initial_codes())
""",
    "helper.py": "WEIGHT = 1.0\n",
    "experiment.py": """
from dataclasses import dataclass
from typing import ClassVar
import pudle


@dataclass(frozen=True)
class Trains(pudle.Experiment):
    kind: ClassVar[str] = "trains"
    estimator: str

    def run(self, folder, device="cpu", progress=None):
        from pudle import match_atoms
        pudle.make_dataset("digits")


EXPERIMENTS = {"trains": Trains("one_step"), "learned": pudle.LearningExperiment(dataset="sparse_gaussian")}
""",
}
#: A plug-in of two modules that lie side by side.
MODULES = {
    "lone_algorithm.py": """
from dataclasses import dataclass
import pudle
import lone_helper


@dataclass(frozen=True)
class Mine(pudle.Ista):
    name = "lone"
""",
    "lone_helper.py": "WEIGHT = 1.0\n",
}
POINTS = {
    "keyed": "[pudle.estimators]\nmine = keyed.estimator:Mine\n[pudle.experiments]\nkeyed = keyed.experiment:EXPERIMENTS\n",
    "lone": "[pudle.algorithms]\nlone = lone_algorithm:Mine\n",
}

#: Appends a constant to each source file in turn and prints which results have another path then.
SCRIPT = """
import json, sys
from pathlib import Path

import pudle
from pudle.measuring import sources
from pudle.measuring.case import Case
from pudle.measuring.store import Store

site = Path(sys.argv[1])
assert Path(pudle.__file__).is_relative_to(site)
store = Store(site / "store", "quick")


def case(dataset, algorithm="ista"):
    return Case("tiny", dataset, algorithm, "lasso", seeds=(0,), depths=(1,))


def paths():
    found = {f"{e} on {d}": store.path(case(d), e) for e in ("backprop", "mine") for d in ("digits", "sparse_gaussian")}
    found["peer"] = store.path(case("sparse_gaussian"), "torchdeq_implicit")
    found["lone"] = store.path(case("sparse_gaussian", "lone"), "backprop")
    found |= {f"reference of {d}": store.reference_path(case(d), 0, "exact") for d in ("digits", "sparse_gaussian")}
    found["limit"] = store.reference_path(case("sparse_gaussian", "lone"), 0, "limit")
    return found | {name: store.experiment_path(name) for name in ("trains", "learned")}


before, outdated = paths(), {}
for file in sorted(site.rglob("*.*")):
    if file.suffix not in (".py", ".j2", ".css", ".js"):
        continue
    content = file.read_bytes()
    file.write_bytes(content + b"\\nADDED = 1\\n")
    sources._digest.cache_clear()
    outdated[file.relative_to(site).as_posix()] = [name for name, path in paths().items() if path != before[name]]
    file.write_bytes(content)
print(json.dumps({"results": list(before), "outdated": outdated}))
"""


@pytest.fixture(scope="module")
def outdated(tmp_path_factory):
    """Which results each file of a copy of the suite, with two plug-ins, outdates when it changes; and all results."""
    site = tmp_path_factory.mktemp("site")
    for package in PACKAGE_FOLDERS.values():
        (source,) = importlib.util.find_spec(package).submodule_search_locations
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, site / package.replace(".", "/"), dirs_exist_ok=True, ignore=skipped)
    for name, content in ({f"keyed/{name}": text for name, text in PLUGIN.items()} | MODULES).items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(content)
    for name, points in POINTS.items():
        info = site / f"{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(points)
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(site)], env=environment, capture_output=True, text=True, cwd=site
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def by_file(outdated, *files: str) -> set[str]:
    """The results that a change to any of some files, or to any file of some folders, outdates."""
    changed = [file for file in outdated["outdated"] if any(file == name or file.startswith(f"{name}/") for name in files)]
    assert changed and all(any(file.startswith(name) for file in changed) for name in files)
    return {result for file in changed for result in outdated["outdated"][file]}


def test_a_helper_of_datasets_outdates_what_is_measured_on_them(outdated):
    on_digits = {"backprop on digits", "mine on digits", "reference of digits", "trains"}
    assert by_file(outdated, "pudle/data/atoms.py") == by_file(outdated, "pudle/datasets/digits.py") == on_digits


def test_a_helper_of_estimators_outdates_their_scores(outdated):
    assert by_file(outdated, "pudle/peers.py") == by_file(outdated, "pudle/estimators/torchdeq_implicit.py") == {"peer"}


def test_an_estimator_outdates_its_own_scores_and_the_trainings_with_it(outdated):
    trained = "learned"
    expected = {"backprop on digits", "backprop on sparse_gaussian", "lone", trained}
    assert by_file(outdated, "pudle/estimators/backprop.py") == expected
    assert by_file(outdated, "pudle/estimators/one_step.py") == {"trains"}
    assert by_file(outdated, "pudle/estimators/spsa.py") == set()


def test_every_file_of_a_plugin_outdates_its_results_alone(outdated):
    theirs = {"mine on digits", "mine on sparse_gaussian", "trains"}
    for name in PLUGIN:
        assert by_file(outdated, f"keyed/{name}") == theirs, name
    for name in MODULES:
        assert by_file(outdated, name) == {"lone", "limit"}, name


@pytest.mark.parametrize("room", ["problems", "algorithms", "references"])
def test_every_file_of_the_rooms_that_all_numbers_rest_on_outdates_everything(outdated, room):
    files = [file for file in outdated["outdated"] if file.startswith(f"pudle/{room}/")]
    assert len(files) > 2
    for file in files:
        missed = set(outdated["results"]) - by_file(outdated, file)
        # An experiment of a plug-in depends on what it imports; this one imports no reference.
        assert missed <= {"trains", "learned"}, file
        assert not (missed and room != "references"), file


def test_scoring_outdates_scores_and_training_outdates_experiments(outdated):
    experiments = {"trains", "learned"}
    references = {"reference of digits", "reference of sparse_gaussian", "limit"}
    scores = set(outdated["results"]) - experiments - references
    for name in ("scoring", "measurement"):
        assert by_file(outdated, f"pudle/measuring/{name}.py") == scores
    assert by_file(outdated, "pudle/measuring/experiment.py") == experiments
    for name in ("learner", "matching"):
        assert by_file(outdated, f"pudle/learning/{name}.py") == experiments


def test_reports_commands_and_help_texts_outdate_nothing(outdated):
    folders = ("pudle/reports", "pudle/bench", "pudle/conformance", "pudle/measuring/commits")
    assert by_file(outdated, *folders) == set()
    files = outdated["outdated"]
    assert any(file.startswith("pudle/reports/templates/") for file in files)
    commands = [file for file in files if file.endswith("command.py") or file.endswith("commands.py")]
    assert len(commands) > 5
    plumbing = [f"pudle/{name}.py" for name in ("__init__", "__main__", "cli", "terminal")]
    plumbing += [f"pudle/measuring/{name}.py" for name in ("store", "sources", "runner", "run", "selection", "provenance")]
    assert by_file(outdated, *commands, *plumbing) == set()


def test_imports_are_followed_into_functions_and_specs_but_not_for_type_checkers(tmp_path):
    source = tmp_path / "plugin.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pudle.reports import load\nelse:\n    import pudle.streams\n"
        "def f():\n    from pudle import peers, Learner\n\n"
        "    return pudle.make_estimator('truncated(window=3)'), pudle.score\n"
    )
    mentioned = sources._mentions("plugin", source)
    assert {"pudle.streams", "pudle.peers", "pudle.Learner", "pudle.estimators.truncated", "pudle.score"} <= mentioned
    assert not any("reports" in name or name == "typing" for name in mentioned)


def test_a_file_that_is_no_python_is_hashed_and_not_followed(tmp_path):
    source = tmp_path / "template.py"
    source.write_text("{% import pudle %}")
    assert sources._mentions("template", source) == set()


def test_a_base_class_of_another_library_is_not_followed():
    import torch

    class Odd(torch.nn.Module, registry.list_estimators()["alternating"]):
        pass

    files = sources.files(SCORES, frozenset({Odd}))
    assert "pudle.estimators.alternating" in files
    assert not any(name.startswith("torch") for name in files)
