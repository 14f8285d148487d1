"""Keys of stored results: which change to which source file outdates which results."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

from pudle import names
from pudle.measuring import sources
from pudle.measuring.provenance import PACKAGE_FOLDERS
from pudle.measuring.store import SCORES

#: A plug-in package of several files, with an estimator and an experiment.
PLUGIN = {
    "__init__.py": "",
    "estimator.py": (
        """
from dataclasses import dataclass
from pudle import Estimate, GradientEstimator
from .helper import WEIGHT


@dataclass(frozen=True)
class Mine(GradientEstimator):
    name = "mine"
    computes = "heuristic"

    def estimate(self, problem, algorithm, depth):
        return Estimate(WEIGHT * problem.theta, problem.initial_codes())
"""
    ),
    "helper.py": "WEIGHT = 1.0\n",
    "experiment.py": (
        """
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
"""
    ),
}
#: A plug-in of two modules that lie side by side.
MODULES = {
    "lone_algorithm.py": (
        """
from dataclasses import dataclass
import pudle
import lone_helper


@dataclass(frozen=True)
class Mine(pudle.Ista):
    name = "lone"
"""
    ),
    "lone_helper.py": "WEIGHT = 1.0\n",
}
POINTS = {
    "keyed": (
        "[pudle.estimators]\nmine = keyed.estimator:Mine\n[pudle.experiments]\nkeyed ="
        " keyed.experiment:EXPERIMENTS\n"
    ),
    "lone": "[pudle.algorithms]\nlone = lone_algorithm:Mine\n",
}

#: What is changed in some files: the text before and after. To every other file a constant is
#: added.
CHANGES = {
    "pudle/data/atoms.py": ("COHERENCE = 0.95", "COHERENCE = 0.9"),
    "pudle/problems/convolution.py": ("SAMPLES_PER_DEGREE = 8", "SAMPLES_PER_DEGREE = 9"),
    "keyed/helper.py": ("WEIGHT = 1.0", "WEIGHT = 2.0"),
    "pudle/measuring/run_command.py": ("How much to measure.", "Amount to measure."),
    "pudle/cli.py": ("Benchmark hypergradients", "Compare hypergradients"),
}
#: Changes each source file in turn and prints which results have another path then.
SCRIPT = """
import json, sys
from pathlib import Path

import pudle
from pudle.measuring import sources
from pudle.measuring.case import Case
from pudle.measuring.store import Store

site, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
assert Path(pudle.__file__).is_relative_to(site)
store = Store(site / "store", "quick")


def case(dataset, algorithm="ista"):
    return Case("tiny", dataset, algorithm, "lasso", seeds=(0,), depths=(1,))


def paths():
    found = {f"{e} on {d}": store.path(case(d), e) for e in ("backprop", "mine") for d in ("digits", "sparse_gaussian")}
    found["peer"] = store.path(case("sparse_gaussian"), "torchdeq_implicit")
    found["lone"] = store.path(case("sparse_gaussian", "lone"), "backprop")
    found |= {f"reference of {d}": store.reference_path(case(d), 0, "exact") for d in ("digits", "sparse_gaussian")}
    found["surface"] = store.artifact_place("window_surface", case("sparse_gaussian"), (1,))[1]
    found["limit"] = store.reference_path(case("sparse_gaussian", "lone"), 0, "limit")
    return found | {name: store.experiment_path(name) for name in ("trains", "learned")}


before, outdated = paths(), {}
for file in sorted(site.rglob("*.*")):
    if file.suffix not in (".py", ".j2", ".css", ".js"):
        continue
    name, content = file.relative_to(site).as_posix(), file.read_text()
    changed = content.replace(*changes.pop(name)) if name in changes else content + "\\nADDED = 1\\n"
    assert changed != content, name
    file.write_text(changed)
    sources._digest.cache_clear()
    outdated[name] = [result for result, path in paths().items() if path != before[result]]
    file.write_text(content)
assert not changes, changes
print(json.dumps({"results": list(before), "outdated": outdated}))
"""


@pytest.fixture(scope="module")
def outdated(tmp_path_factory):
    """Which results each file of a copy of the suite, with two plug-ins, outdates when it changes;
    and all results.
    """
    site = tmp_path_factory.mktemp("site")
    for package in PACKAGE_FOLDERS.values():
        (source,) = importlib.util.find_spec(package).submodule_search_locations
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            source, site / package.replace(".", "/"), dirs_exist_ok=True, ignore=skipped
        )
    for name, content in (
        {f"keyed/{name}": text for name, text in PLUGIN.items()} | MODULES
    ).items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(content)
    for name, points in POINTS.items():
        info = site / f"{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(points)
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(site), json.dumps(CHANGES)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=site,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def by_file(outdated, *files: str) -> set[str]:
    """The results that a change to any of some files, or to any file of some folders, outdates."""
    changed = [
        file
        for file in outdated["outdated"]
        if any(file == name or file.startswith(f"{name}/") for name in files)
    ]
    assert changed and all(any(file.startswith(name) for file in changed) for name in files)
    return {result for file in changed for result in outdated["outdated"][file]}


def test_a_changed_constant_in_a_helper_of_datasets_outdates_exactly_the_results_on_them(outdated):
    """Digits are split by this helper; the drawn datasets do not use it."""
    on_digits = {"backprop on digits", "mine on digits", "reference of digits", "trains"}
    assert (
        by_file(outdated, "pudle/data/atoms.py")
        == by_file(outdated, "pudle/datasets/digits.py")
        == on_digits
    )


def test_a_changed_constant_in_a_helper_of_estimators_outdates_exactly_their_scores(outdated):
    assert (
        by_file(outdated, "pudle/peers.py")
        == by_file(outdated, "pudle/estimators/torchdeq_implicit.py")
        == {"peer"}
    )


def test_a_changed_constant_in_the_file_of_a_problem_outdates_every_result(outdated):
    """All scores, references and trainings rest on the room of problems as a whole."""
    assert by_file(outdated, "pudle/problems/convolution.py") == set(outdated["results"])


def test_a_changed_constant_in_the_second_file_of_a_plugin_outdates_exactly_its_results(outdated):
    assert by_file(outdated, "keyed/helper.py") == {
        "mine on digits",
        "mine on sparse_gaussian",
        "trains",
    }
    assert by_file(outdated, "lone_helper.py") == {"lone", "limit"}


def test_a_changed_report_template_outdates_nothing(outdated):
    templates = [
        file for file in outdated["outdated"] if file.startswith("pudle/reports/page/templates/")
    ]
    assert len(templates) > 3 and by_file(outdated, *templates) == set()


def test_a_changed_help_text_outdates_nothing(outdated):
    commands = [
        file for file in outdated["outdated"] if file.endswith(("command.py", "command_options.py"))
    ]
    assert len(commands) > 5 and by_file(outdated, *commands, "pudle/cli.py") == set()


def test_an_estimator_outdates_its_own_scores_and_the_trainings_with_it(outdated):
    trained = "learned"
    expected = {"backprop on digits", "backprop on sparse_gaussian", "lone", trained}
    assert by_file(outdated, "pudle/estimators/backprop.py") == expected
    assert by_file(outdated, "pudle/estimators/one_step.py") == {"trains"}
    assert by_file(outdated, "pudle/estimators/spsa.py") == set()


def test_a_surface_rests_on_its_own_module_and_on_the_estimator_of_its_windows(outdated):
    assert (
        by_file(outdated, "pudle/measuring/surfaces.py")
        == by_file(outdated, "pudle/estimators/truncated.py")
        == {"surface"}
    )


def test_every_file_of_a_plugin_outdates_the_same_results(outdated):
    for files in ([f"keyed/{name}" for name in PLUGIN], list(MODULES)):
        assert all(by_file(outdated, file) == by_file(outdated, *files) for file in files)


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


def test_what_computes_no_number_outdates_nothing(outdated):
    folders = ("pudle/reports", "pudle/bench", "pudle/conformance", "pudle/measuring/commits")
    plumbing = [f"pudle/{name}.py" for name in ("__init__", "__main__", "cli", "terminal")]
    plumbing += [
        f"pudle/measuring/{name}.py"
        for name in ("store", "sources", "runner", "run", "selection", "crossing", "provenance")
    ]
    assert by_file(outdated, *folders, *plumbing) == set()


def test_imports_are_followed_into_functions_and_specs_but_not_for_type_checkers(tmp_path):
    source = tmp_path / "plugin.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pudle.reports import load\nelse:\n    import pudle.streams\n"
        "def f():\n    from pudle import peers, Learner\n\n"
        "    return pudle.make_estimator('truncated(window=3)'), pudle.score\n"
    )
    mentioned = sources._mentions("plugin", source)
    assert {
        "pudle.streams",
        "pudle.peers",
        "pudle.Learner",
        "pudle.estimators.truncated",
        "pudle.score",
    } <= mentioned
    assert not any("reports" in name or name == "typing" for name in mentioned)


def test_a_file_that_is_no_python_is_hashed_and_not_followed(tmp_path):
    source = tmp_path / "template.py"
    source.write_text("{% import pudle %}")
    assert sources._mentions("template", source) == set()


def test_a_base_class_of_another_library_is_not_followed():
    import torch

    class Odd(torch.nn.Module, names.list_estimators()["alternating"]):
        pass

    files = sources.files(SCORES, frozenset({Odd}))
    assert "pudle.estimators.alternating" in files
    assert not any(name.startswith("torch") for name in files)
