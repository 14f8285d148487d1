"""Keys of stored results: which change of which source outdates which results."""

import dataclasses
import sys
from pathlib import Path

import grimp
import pytest
from support.estimators.plugin import write_package
from support.problems.small_problems import TINY

import pudle
from pudle import LearningExperiment, names
from pudle.kernel_choice import VARIABLE
from pudle.measuring import provenance, sources
from pudle.measuring.results.cost import EstimateCost
from pudle.measuring.results.experiment import CarriedExperiment
from pudle.measuring.results.reference import CaseReference
from pudle.measuring.results.score import Scores
from pudle.measuring.store import Store
from pudle.names import grammar, registry, spelling

ROOT = Path(pudle.__file__).parent
#: Modules that results are computed with, and whose contents change no number: they name things,
#: check and describe arguments, start processes, and write files.
NEUTRAL = {
    "short_repr",
    "errors",
    "files",
    "names",
    "paired",
    "terminal",
    "text",
    "validation",
    "workers",
    "measuring/stored_files",
    "measuring/grouping",
    "measuring/naming",
    "measuring/provenance",
    "measuring/results/reference",
    "measuring/results/result",
    "measuring/selection",
    "measuring/sources",
    "measuring/store",
}


#: Who imports whom when it runs.
GRAPH = grimp.build_graph("pudle", exclude_type_checking_imports=True)


def imported(path):
    """Return the modules of this package that a file imports, as paths."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    module = ".".join(parts).removesuffix(".__init__")
    for each in GRAPH.find_modules_directly_imported_by(module):
        yield each.removeprefix("pudle.").replace(".", "/")


@pytest.mark.parametrize("kind", [Scores, EstimateCost, CaseReference, CarriedExperiment])
def test_rooms_hold_all_that_a_result_is_computed_with(kind):
    """Whatever a room imports is in a room as well, or changes no number; no command is in one."""
    paths = sources.files(kind.rooms)
    rooms = {*kind.rooms, *NEUTRAL}
    outside = {
        module
        for path in paths.values()
        for module in {*imported(path)} - {"", "measuring"}
        if not any(module == room or module.startswith(f"{room}/") for room in rooms)
    }
    assert outside == set()
    for room in kind.rooms:
        assert any(name == f"{room}.py" or name.startswith(f"{room}/") for name in paths), room
    assert not any("command" in name or "report" in name for name in paths)
    # A label that is worded anew and a study that is added measure nothing again.
    assert not any("naming" in name or "studies" in name for name in paths)


def test_a_class_counts_with_its_file_and_a_plugin_with_its_package(tmp_path, monkeypatch):
    def names(cls):
        files = sources.files(Scores.rooms, frozenset([cls]))
        return files.keys() - sources.files(Scores.rooms).keys()

    own = names(type(pudle.make_estimator("backprop")))
    assert {"pudle.estimators.backprop"} <= own <= {"pudle.estimators.backprop", "pudle.estimator"}
    package = tmp_path / "kept_plugin"
    package.mkdir()
    text = "from pudle.estimators.backprop import Backprop\nclass Own(Backprop): pass\n"
    for name, content in {"__init__": "", "other": "", "mine": text}.items():
        (package / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    plugin = names(__import__("kept_plugin.mine").mine.Own)
    assert {f"kept_plugin/{name}.py" for name in ("__init__", "mine", "other")} | own <= plugin
    monkeypatch.delitem(sys.modules, "kept_plugin")


RESULTS = {
    type(result): result
    for result in (
        Scores(TINY, "truncated(window=3)"),
        EstimateCost("seconds", TINY, "truncated(window=3)", 5),
        CaseReference(TINY, 0, "exact"),
        CarriedExperiment("one", "of some", pudle.LearningExperiment(TINY.dataset, epochs=3)),
    )
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a function that gives the place of a result under some changes, of its own fields or
    of those of its case or experiment.
    """
    monkeypatch.setenv(VARIABLE, "torch")

    def find(kind, profile="quick", device="cpu", **changes):
        result = RESULTS[kind]
        own = {name: changes.pop(name) for name in vars(result).keys() & changes.keys()}
        (inner,) = {"case", "experiment"} & vars(result).keys()
        own[inner] = dataclasses.replace(getattr(result, inner), **changes)
        return Store(tmp_path, profile, device).place(dataclasses.replace(result, **own))

    return find


#: Changes of a case that change its problem or algorithm.
CASE = (
    {"loss": "reconstruction"},
    {"dtype": "float32"},
    {"dataset": TINY.dataset.replace("20", "21", 1)},
    {"algorithm": "fista"},
)


@pytest.mark.parametrize(
    "kind, same, others",
    [
        (
            Scores,
            (),
            (
                {"seeds": (0, 2)},
                {"depths": (1, 6)},
                {"targets": ("limit",)},
                {"profile": "default"},
                {"device": "cuda"},
                {"estimator": "truncated(window=4)"},
                {"name": "other"},
                *CASE,
            ),
        ),
        (
            EstimateCost,
            (
                {"seeds": (0, 7)},
                {"depths": (5, 9)},
                {"targets": ("limit",)},
                {"profile": "default"},
            ),
            (
                {"name": "other"},
                {"seeds": (1, 0)},
                {"depth": 1},
                {"metric": "memory_bytes"},
                {"device": "cuda"},
                {"estimator": "truncated(window=4)"},
                *CASE,
            ),
        ),
        (
            CaseReference,
            (
                {"algorithm": "fista"},
                {"depths": (3,)},
                {"name": "other"},
                {"profile": "default"},
                {"device": "cuda"},
            ),
            (
                {"seed": 1},
                {"target": "limit"},
                {"target": "limit", "algorithm": "fista"},
                *CASE[:3],
            ),
        ),
        (
            CarriedExperiment,
            ({"profile": "default"},),
            ({"device": "cuda"}, {"name": "two"}, {"study": "another"}, {"epochs": 4}),
        ),
    ],
)
def test_each_part_counts(place, kind, same, others):
    """Beside sources: one that is lost measures nothing again."""
    assert {place(kind), *(place(kind, **change) for change in same)} == {place(kind)}
    assert len({place(kind), *(place(kind, **change) for change in others)}) == 1 + len(others)


def test_kernels_machine_and_fingerprints_count(place, monkeypatch):
    kinds = (Scores, EstimateCost, CarriedExperiment)
    before = {kind: place(kind) for kind in kinds}
    reference, torch_path = place(CaseReference), place(EstimateCost, metric="seconds_torch")
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, "numba")
        assert not any(place(kind) == before[kind] for kind in kinds)
        assert place(CaseReference) == reference
        assert place(EstimateCost, metric="seconds_torch") == torch_path
    with monkeypatch.context() as patch:
        patch.setattr("pudle.measuring.results.cost.machine", lambda: {"cpu": "another"})
        assert place(EstimateCost) != before[EstimateCost]
        assert all(place(kind) == before[kind] for kind in (Scores, CarriedExperiment))
    assert place(EstimateCost, threads=1) == before[EstimateCost] != place(EstimateCost, threads=2)
    for cls in (
        type(pudle.make_dataset(TINY.dataset)),
        type(pudle.make_estimator("truncated(window=3)")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(cls, "fingerprint", lambda self: "another version")
            assert place(Scores) != before[Scores] and place(EstimateCost) != before[EstimateCost]


def test_every_source_counts_where_no_commit_says_what_was_measured(monkeypatch):
    before = provenance.source_digest.__wrapped__()
    read = Path.read_bytes
    changed = ROOT / "estimator.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == changed))
    assert provenance.source_digest.__wrapped__() != before


PARTS = """
from dataclasses import dataclass

from pudle.algorithms.thresholding import Soft
from pudle.learning.optimizers import Constant, Sgd


@dataclass(frozen=True)
class Own(Sgd):
    name = "own"


class OwnRule(Soft):
    name = "own_rule"


@dataclass(frozen=True)
class OwnSchedule(Constant):
    name = "own_schedule"
"""
POINTS = """
[pudle.optimizers]
own = own_plugin_parts:Own
[pudle.schedules]
own_schedule = own_plugin_parts:OwnSchedule
[pudle.thresholding]
own_rule = own_plugin_parts:OwnRule
"""


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "own"},
        {"schedule": "own_schedule"},
        {"algorithm": "ista(thresholding='own_rule')"},
    ],
    ids=str,
)
def test_an_experiment_rests_on_every_part_that_it_names(options, tmp_path, installed):
    """An edited optimizer, schedule or thresholding rule is carried out again."""
    site = write_package(tmp_path / "site", "own_plugin_parts", PARTS, POINTS)
    installed(site)
    experiment = LearningExperiment("sparse_gaussian", **options)
    store = Store(tmp_path / "store", "quick")
    before = CarriedExperiment("own", "own", experiment).key(store)
    with (site / "own_plugin_parts.py").open("a") as source:
        source.write("# edited\n")
    sources.forget()
    assert CarriedExperiment("own", "own", experiment).key(store) != before


def test_every_field_that_holds_a_spec_says_so():
    """A text in a field that is the name of something is declared as the spec of it."""
    classes = [cls for group in names.KINDS for cls in registry.built_in(group).values()]
    every = [*filter(dataclasses.is_dataclass, classes), *names.list_experiments().values()]
    known = {name: group for group in names.KINDS for name in registry.built_in(group)}
    undeclared = set()
    for thing in every:
        for option in dataclasses.fields(thing):
            value = getattr(thing, option.name, option.default)
            is_spec = isinstance(value, str) and grammar.SPEC.fullmatch(value)
            if is_spec and is_spec["name"] in known and spelling.GROUP not in option.metadata:
                undeclared.add((option.name, value))
    # The first filters of noisy crops are a cosine transform, which is no schedule.
    assert undeclared == {("start", "cosine")}


UNDECLARED = """
from dataclasses import dataclass
from pudle import Experiment


@dataclass(frozen=True)
class Trains(Experiment):
    optimizer: str = "adam"
    kind = "trains"

    def run(self, folder, device="cpu", progress=None):
        return None


EXPERIMENTS = {"trains": Trains()}
"""


def test_an_experiment_whose_spec_is_not_declared_is_refused(tmp_path, installed):
    point = "[pudle.experiments]\ntrains = own_plugin_trains:EXPERIMENTS"
    installed(write_package(tmp_path / "site", "own_plugin_trains", UNDECLARED, point))
    (line,) = names.broken("experiments")
    assert "write optimizer: str = pudle.names.spec_field('optimizers', 'adam')" in line
