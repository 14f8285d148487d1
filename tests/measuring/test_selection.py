"""Cases, and the frozen selection of one run."""

from __future__ import annotations

import dataclasses

import pytest

from pudle.errors import InvalidArgument, UnreadableResult
from pudle.measuring.case import Case
from pudle.measuring.selection import Selection, select

CASE = Case(
    name="tiny",
    dataset="sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)",
    algorithm="ista",
    loss="lasso",
    seeds=(0, 1),
    depths=(5, 1),
)
OTHER = dataclasses.replace(CASE, name="other", loss="reconstruction")
PROFILE = Selection("quick", (CASE, OTHER), ("backprop",), (1,), (5,), 60.0, windows=(1, 2), jacobian_error=True)


def test_a_selection_comes_back_as_it_was_written(tmp_path):
    PROFILE.write(tmp_path / "selection.json")
    assert Selection.read(tmp_path / "selection.json") == PROFILE
    assert PROFILE.pairs == [(CASE, "backprop"), (OTHER, "backprop")] and PROFILE.case("other") is OTHER
    with pytest.raises(InvalidArgument, match="unknown case 'third': the selection holds tiny, other"):
        PROFILE.case("third")


def test_a_damaged_selection_is_refused(tmp_path):
    path = tmp_path / "selection.json"
    path.write_text('{"profile": "quick", "cases": [{"name": "x"}]}')
    with pytest.raises(UnreadableResult, match=r"field `dataset` - at `\$\.cases\[0\]`"):
        Selection.read(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seeds": ()}, "seeds is empty"),
        ({"depths": (-1,)}, "depths=-1 is too small"),
        ({"targets": ("truth",)}, "target='truth' is unknown: choose from exact"),
        ({"dtype": "int8"}, "dtype='int8' is unknown"),
    ],
)
def test_a_case_that_cannot_be_measured_is_refused(change, text):
    with pytest.raises(InvalidArgument, match=text):
        dataclasses.replace(CASE, **change)


def test_depths_are_sorted():
    assert CASE.depths == (1, 5)


def names(selection: Selection) -> list[str]:
    return [case.name for case in selection.cases]


def test_options_widen_a_profile():
    assert select(PROFILE) == PROFILE
    chosen = select(PROFILE, estimators=["truncated(window=3)", "backprop", "implicit"], device="cuda")
    assert chosen.estimators == ("backprop", "truncated(window=3)", "analytic") and chosen.device == "cuda"
    assert chosen.cases == PROFILE.cases
    added = select(PROFILE, datasets=["sparse_gaussian(n_samples=10)"])
    assert names(added)[2:] == [f"sparse_gaussian_n_samples_10-ista-{loss}" for loss in ("lasso", "reconstruction")]
    assert added.cases[-1].seeds == CASE.seeds and added.cases[-1].dataset == "sparse_gaussian(n_samples=10)"


def test_options_narrow_a_profile():
    assert names(select(PROFILE, cases=["o*"])) == ["other"]
    assert names(select(PROFILE, cases=["o*", "tin?"])) == ["tiny", "other"]
    assert select(PROFILE, estimators=["analytic"], only=True).estimators == ("analytic",)


def test_experiments_are_those_that_are_named_or_of_the_whole_profile():
    profile = dataclasses.replace(PROFILE, experiments=("optimizers-sgd-1-backprop-lasso",))
    assert select(profile).experiments == profile.experiments
    assert select(profile, cases=["tiny"]).experiments == select(profile, datasets=["digits"]).experiments == ()
    named = select(profile, experiments=["interpretation-*"])
    assert named.experiments and all(name.startswith("interpretation-") for name in named.experiments)
    assert named.cases == () and names(select(profile, experiments=["interpretation-*"], cases=["tiny"])) == ["tiny"]
    with pytest.raises(InvalidArgument, match="--experiment 'nothing-.' matches no experiment: `pudle list experiments`"):
        select(profile, experiments=["nothing-*"])
