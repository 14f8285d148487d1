"""The store keeps records, notices changes, and refuses damaged files."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import re

import numpy as np
import pytest
import torch
from examples import TINY

import pudle
import pudle.names
from pudle.errors import UnreadableResult, UnwritableFile
from pudle.files import read_arrays
from pudle.kernel_choice import VARIABLE
from pudle.measuring.costs import BENCHMARKS, Cell
from pudle.measuring.experiment import ExperimentResult
from pudle.measuring.measurement import measure, stored_reference
from pudle.measuring.store import SCHEMA, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", "quick")


def test_a_record_comes_back_as_it_was_written(store):
    written = measure(TINY, "backprop", store)
    read = store.read(TINY, "backprop")
    assert read["key"] == written["key"] and read["status"] == "ok"
    assert [row["relative_error"] for row in read["scores"]] == [
        row["relative_error"] for row in written["scores"]
    ]
    assert {(row["seed"], row["depth"]) for row in read["scores"]} == {
        (0, 1),
        (0, 5),
        (1, 1),
        (1, 5),
    }


def test_scores_are_those_of_the_public_interface(store):
    record = measure(TINY, "alternating", store)
    problem = pudle.make_dataset(
        "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2, seed=1)"
    ).problem("lasso")
    estimate = pudle.make_estimator("alternating").estimate(problem, pudle.Ista(), 5)
    expected = pudle.score(estimate, pudle.reference(problem))
    (row,) = (row for row in record["scores"] if row["seed"] == 1 and row["depth"] == 5)
    assert math.isclose(row["relative_error"], expected.relative_error, rel_tol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"depths": (1, 6)},
        {"seeds": (0, 2)},
        {"loss": "reconstruction"},
        {"algorithm": "ista(step=0.1)"},
    ],
)
def test_a_changed_case_is_another_record(store, change):
    measure(TINY, "alternating", store)
    assert store.read(dataclasses.replace(TINY, **change), "alternating") is None


def test_references_are_shared_by_cases_that_differ_in_algorithm_only(store, monkeypatch):
    first = stored_reference(TINY, 0, "exact", store)
    monkeypatch.setattr(
        "pudle.references.certified.reference", lambda *_: pytest.fail("computed again")
    )
    again = stored_reference(
        dataclasses.replace(TINY, algorithm="fista", depths=(3,)), 0, "exact", store
    )
    assert torch.equal(first.gradient, again.gradient) and torch.equal(first.codes, again.codes)
    assert first.certificate == again.certificate and first.bound == again.bound


def test_nan_is_written_as_strict_json(store):
    store.write(
        TINY, "backprop", {"scores": [{"relative_error": float("nan")}], "status": "diverged"}
    )
    text = store.path(TINY, "backprop").read_text()
    assert "NaN" not in text
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["scores"] == [
        {"relative_error": None}
    ]


@pytest.mark.parametrize(
    "content",
    ["", '{"schema": 1, "sco', "[1, 2]", "\x00\xff", "{}", '{"schema": 2, "status": "ok"}'],
)
def test_a_damaged_record_counts_as_missing(store, content):
    path = store.path(TINY, "backprop")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert store.read(TINY, "backprop") is None
    measure(TINY, "backprop", store)
    assert store.read(TINY, "backprop")["status"] == "ok"


def test_a_damaged_reference_counts_as_missing(store):
    measure(TINY, "alternating", store)
    path = store.reference_path(TINY, 0, "exact")
    whole, gradient = path.read_bytes(), store.read_reference(TINY, 0, "exact").gradient
    for content in (b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert store.read_reference(TINY, 0, "exact") is None
        assert torch.equal(stored_reference(TINY, 0, "exact", store).gradient, gradient)
        assert store.read_reference(TINY, 0, "exact") is not None


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", ".", "é\x00"])
def test_an_experiment_stays_in_the_store_whatever_its_name(store, monkeypatch, name):
    known = pudle.names.list_experiments()
    monkeypatch.setattr(
        "pudle.measuring.store.list_experiments", lambda: {name: next(iter(known.values()))}
    )
    path = store.experiment_path(name)
    assert path.resolve().parent == (store.folder / "experiments").resolve()


def test_a_cost_comes_back_with_what_it_is_of(store):
    cell = Cell("seconds", TINY, "truncated(window=3)", 5)
    assert store.read_cost(cell) is None
    cost = {
        "status": "ok",
        "reason": "",
        "value": 0.5,
        "samples": [0.4, 0.5, 0.6],
        "baseline": None,
    }
    store.write_cost(cell, cost)
    read = store.read_cost(cell)
    identity = {
        "metric": "seconds",
        "case": "tiny",
        "estimator": "truncated(window=3)",
        "depth": 5,
        "profile": "quick",
    }
    assert {name: read[name] for name in (*identity, *cost)} == identity | cost
    assert read["provenance"]["device"] == "cpu"
    path = store.cost_path(cell)
    assert path.parent == store.folder / "tiny" / "costs" and path.name.startswith(
        "seconds-truncated"
    )
    assert (
        store.read_cost(cell._replace(depth=1)) is None
        and store.read_cost(cell._replace(metric="memory_bytes")) is None
    )


def test_an_experiment_comes_back_with_its_study_its_options_and_its_arrays(store):
    study, members = next(iter(pudle.names.list_studies().items()))
    (name, experiment), (plain, _) = list(members.items())[:2]
    assert store.read_experiment(name) is None
    arrays = {"picture": np.eye(2), "filters": np.ones(3)}
    store.write_experiment(
        name, ExperimentResult([{"step": 0, "value": math.nan}], {"value": 2.0}, arrays), 1.5
    )
    read = store.read_experiment(name)
    expected = {
        "study": study,
        "name": name,
        "kind": experiment.kind,
        "status": "ok",
        "reason": "",
        "seconds": 1.5,
        "rows": [{"step": 0, "value": None}],
        "summary": {"value": 2.0},
        "arrays": ["filters", "picture"],
        "options": json.loads(json.dumps(dataclasses.asdict(experiment))),
    }
    assert {key: read[key] for key in expected} == expected
    with np.load(store.experiment_path(name).with_suffix(".npz")) as kept:
        assert all(np.array_equal(kept[key], array) for key, array in arrays.items())
    store.write_experiment(plain, ExperimentResult([], status="error", reason="because"), None)
    assert store.read_experiment(plain)["reason"] == "because"
    assert not store.experiment_path(plain).with_suffix(".npz").exists()


def test_an_experiment_that_has_a_record_has_its_arrays(store, monkeypatch):
    name, whole = (
        next(iter(pudle.names.list_experiments())),
        pudle.measuring.store.write_atomically,
    )

    def dies_before_the_arrays(path, content):
        if path.suffix == ".npz":
            raise KeyboardInterrupt
        whole(path, content)

    monkeypatch.setattr("pudle.measuring.store.write_atomically", dies_before_the_arrays)
    with pytest.raises(KeyboardInterrupt):
        store.write_experiment(name, ExperimentResult([], arrays={"picture": np.eye(2)}), 1.0)
    assert store.read_experiment(name) is None


def test_an_artifact_is_replaced_when_its_case_or_its_windows_change(store, monkeypatch):
    assert not store.has_artifact("curve", TINY, (1, 5))
    store.write_artifact("curve", TINY, (1, 5), [{"depth": 1, "error": 0.5}], "")
    path, key = store.artifact_place("curve", TINY, (1, 5))
    assert path == store.folder / "artifacts" / "tiny-curve.json"
    written = {
        "kind": "curve",
        "case": "tiny",
        "key": key,
        "seed": 0,
        "rows": [{"depth": 1, "error": 0.5}],
        "reason": "",
    }
    assert json.loads(path.read_text()) == written
    assert store.has_artifact("curve", TINY, (1, 5))
    other = dataclasses.replace(TINY, depths=(1,))
    assert not store.has_artifact("curve", TINY, (1,)) and not store.has_artifact(
        "curve", other, (1, 5)
    )
    assert not store.has_artifact("surface", TINY, (1, 5))
    store.write_artifact("curve", other, (1, 5), [], "none of this case")
    assert store.has_artifact("curve", other, (1, 5)) and not store.has_artifact(
        "curve", TINY, (1, 5)
    )
    assert json.loads(path.read_text())["reason"] == "none of this case"
    monkeypatch.setenv(VARIABLE, "torch" if pudle.kernel_choice.choice() != "torch" else "numba")
    assert not store.has_artifact("curve", other, (1, 5))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_what_the_system_refuses_to_write_is_one_line(store, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.raises(UnwritableFile, match=re.escape(os.strerror(number))) as caught:
        measure(TINY, "alternating", store)
    assert str(store.folder) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_arrays_end_in_one_line(tmp_path):
    """Wherever a byte is flipped: in names, sizes, flags, or the compressed stream; some flips go
    unnoticed.
    """
    path = tmp_path / "arrays.npz"
    np.savez_compressed(path, values=np.random.default_rng(0).standard_normal(40))
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_arrays(path, ["values"])
        except UnreadableResult as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > len(whole) // 2


def test_an_interrupted_write_leaves_the_old_record(store, monkeypatch):
    measure(TINY, "alternating", store)
    before = store.path(TINY, "alternating").read_text()
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt())
    )
    with pytest.raises(KeyboardInterrupt):
        measure(TINY, "alternating", store)
    assert store.path(TINY, "alternating").read_text() == before
    assert [path.suffix for path in store.path(TINY, "alternating").parent.iterdir()] == [".json"]


def test_a_record_says_what_was_measured_on_what(tmp_path):
    store = Store(tmp_path, "quick", commit="0123abc", dirty=True)
    written = store.write(TINY, "alternating", {"status": "ok", "scores": []})
    record = json.loads(store.path(TINY, "alternating").read_text())
    assert record["key"] == written["key"] == store.key(TINY, "alternating")
    assert record["profile"] == "quick" and record["estimator"] == "alternating"
    assert record["computes"] == "direct" and record["consistent_for"] == ["lasso"]
    assert record["provenance"]["commit"] == "0123abc" and record["provenance"]["dirty"] is True
    assert "\n" in store.path(TINY, "alternating").read_text().strip(), (
        "records are read by people too"
    )


def test_scores_rest_on_the_spec_its_fingerprint_the_profile_the_device_and_the_kernels(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(VARIABLE, "torch")
    stores = {name: Store(tmp_path, *name.split()) for name in ("quick", "default", "quick cuda")}
    keys = {name: each.key(TINY, "truncated(window=3)") for name, each in stores.items()}
    keys["window"] = stores["quick"].key(TINY, "truncated(window=4)")
    monkeypatch.setattr(
        "pudle.estimators.truncated.Truncated.fingerprint",
        lambda self: "another version of a library",
    )
    keys["fingerprint"] = stores["quick"].key(TINY, "truncated(window=3)")
    monkeypatch.undo()
    monkeypatch.setenv(VARIABLE, "numba")
    keys["kernels"] = stores["quick"].key(TINY, "truncated(window=3)")
    assert len(set(keys.values())) == len(keys)


def test_references_rest_on_their_problem_and_limits_on_the_algorithm_too(store):
    def path(target: str = "exact", seed: int = 0, **changes: object) -> str:
        return str(store.reference_path(dataclasses.replace(TINY, **changes), seed, target))

    dataset = TINY.dataset.replace("n_samples=20", "n_samples=21")
    changed = [
        {"seed": 1},
        {"dataset": dataset},
        {"loss": "reconstruction"},
        {"dtype": "float32"},
        {"target": "limit"},
    ]
    assert len({path(), *(path(**change) for change in changed)}) == 1 + len(changed)
    assert path(algorithm="fista") == path() and path("limit", algorithm="fista") != path("limit")


def test_experiments_rest_on_their_sources_the_device_and_the_kernels(tmp_path, monkeypatch):
    name = next(iter(pudle.names.list_experiments()))
    monkeypatch.setenv(VARIABLE, "torch")
    paths = [Store(tmp_path, "quick", device).experiment_path(name) for device in ("cpu", "cuda")]
    assert Store(tmp_path, "default").experiment_path(name) == paths[0], (
        "it is the same in all profiles"
    )
    monkeypatch.setenv(VARIABLE, "numba")
    paths.append(Store(tmp_path, "quick").experiment_path(name))
    monkeypatch.setattr(
        "pudle.measuring.sources.digest", lambda module, *parts: f"{module} {parts}"
    )
    paths.append(Store(tmp_path, "quick").experiment_path(name))
    assert len(set(paths)) == len(paths)


class TestKeys:
    """What a key is made of, part by part: one that is lost measures nothing again, one that is
    renamed everything.
    """

    DATASET = pudle.make_dataset(TINY.dataset)
    ESTIMATOR = "truncated(window=3)"

    @pytest.fixture
    def keyed(self, store, monkeypatch):
        """The store, whose keys number the parts that they are made of, and these."""
        made = []

        def count(**parts):
            made.append(parts)
            return f"key{len(made)}"

        monkeypatch.setattr("pudle.measuring.store._hash", count)
        monkeypatch.setattr("pudle.measuring.sources.digest", lambda *things: things)
        monkeypatch.setattr(
            type(self.DATASET), "fingerprint", lambda dataset: f"files of {dataset.n_samples}"
        )
        monkeypatch.setattr(
            "pudle.estimators.truncated.Truncated.fingerprint",
            lambda made: f"library of {made.window}",
        )
        return store, made

    def on_data(self, module, *things):
        return {
            "sources": (f"pudle.measuring.{module}", self.DATASET, *things),
            "data": "files of 20",
        }

    def test_of_scores(self, keyed):
        store, made = keyed
        path = store.path(TINY, self.ESTIMATOR)
        assert path.parent == store.folder / "tiny" and re.fullmatch(
            r"truncated.*-key1\.json", path.name
        )
        assert made == [
            {
                **self.on_data("measurement", pudle.make_estimator(self.ESTIMATOR), pudle.Ista()),
                "estimator": self.ESTIMATOR,
                "fingerprint": "library of 3",
                "profile": "quick",
                "device": "cpu",
                "kernels": pudle.kernel_choice.choice(),
                "case": dataclasses.asdict(TINY),
            }
        ]

    @pytest.mark.parametrize("metric", BENCHMARKS)
    def test_of_costs(self, keyed, monkeypatch, metric):
        store, made = keyed
        monkeypatch.setattr("pudle.measuring.store.machine", lambda: "this machine")
        monkeypatch.setattr("pudle.measuring.store.description", lambda: "compiled by numba")
        cell = Cell(metric, TINY, self.ESTIMATOR, 5)
        paths = store.cost_paths([cell, cell._replace(depth=1)])
        assert [path.parent for path in paths.values()] == [store.folder / "tiny" / "costs"] * 2
        assert re.fullmatch(rf"{metric}-truncated.*-5-key1\.json", paths[cell].name)
        parts = {
            **self.on_data("costs", pudle.make_estimator(self.ESTIMATOR), pudle.Ista()),
            "dataset": TINY.dataset,
            "algorithm": "ista",
            "loss": "lasso",
            "dtype": "float64",
            "seed": 0,
            "device": "cpu",
            "estimator": self.ESTIMATOR,
            "fingerprint": "library of 3",
            "machine": "this machine",
            "metric": metric,
            "kernels": "torch" if metric == "seconds_torch" else "compiled by numba",
        }
        sources = [made[index].pop("benchmark") for index in range(2)]
        assert made == [parts | {"depth": 5}, parts | {"depth": 1}]
        assert (
            sources[0] == sources[1] and f"class {BENCHMARKS[metric].split('.')[1]}" in sources[0]
        )

    def test_of_an_experiment(self, keyed, monkeypatch):
        store, made = keyed
        experiment = next(iter(pudle.names.list_experiments().values()))
        monkeypatch.setattr("pudle.measuring.store.list_experiments", lambda: {"a/b c": experiment})
        monkeypatch.setattr(type(experiment), "fingerprint", lambda _: "files of an experiment")
        assert (
            store.experiment_path("a/b c") == store.folder / "experiments" / "a%2Fb%20c-key1.json"
        )
        assert made == [
            {
                "sources": ("pudle.measuring.experiment", experiment),
                "experiment": dataclasses.asdict(experiment),
                "data": "files of an experiment",
                "device": "cpu",
                "kernels": pudle.kernel_choice.choice(),
            }
        ]

    def test_of_an_artifact(self, keyed):
        store, made = keyed
        assert store.artifact_place("curve", TINY, (1, 5)) == (
            store.folder / "artifacts" / "tiny-curve.json",
            "key1",
        )
        assert made == [
            {
                **self.on_data("surfaces", pudle.Ista()),
                "case": dataclasses.asdict(TINY),
                "windows": (1, 5),
                "kernels": pudle.kernel_choice.choice(),
            }
        ]

    @pytest.mark.parametrize(("target", "algorithm"), [("exact", ""), ("limit", "ista")])
    def test_of_a_reference(self, keyed, target, algorithm):
        store, made = keyed
        assert store.reference_path(TINY, 1, target) == store.folder / "references" / "key1.npz"
        assert made == [
            {
                **self.on_data("case", *([pudle.Ista()] if algorithm else [])),
                "dataset": TINY.dataset,
                "seed": 1,
                "loss": "lasso",
                "dtype": "float64",
                "target": target,
                "algorithm": algorithm,
            }
        ]

    def test_is_a_digest_of_the_parts_and_of_the_format(self, monkeypatch):
        hashed = pudle.measuring.store._hash
        text = f'{{"a": [1, null], "b": "x", "schema": {SCHEMA}}}'
        assert hashed(b="x", a=(1, None)) == hashlib.sha256(text.encode()).hexdigest()[:16]
        monkeypatch.setattr("pudle.measuring.store.SCHEMA", SCHEMA + 1)
        assert hashed(b="x", a=(1, None)) != hashlib.sha256(text.encode()).hexdigest()[:16]
