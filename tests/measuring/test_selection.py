"""Cases, and the frozen selection of one run."""

import dataclasses
from fnmatch import fnmatch
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.problems.small_problems import TINY

from pudle.bench.cases import QUICK
from pudle.errors import InvalidArgument
from pudle.files import read_record, write_record
from pudle.measuring.naming import spec_slug
from pudle.measuring.options import Options
from pudle.measuring.run import Run
from pudle.measuring.selection import Selection
from pudle.measuring.selection import select as selected
from pudle.names import list_estimators, list_profiles, parse

OTHER = dataclasses.replace(TINY, name="other", loss="reconstruction")
PROFILE = Selection("quick", (TINY, OTHER), ("backprop",), (1,), (5,), 60.0)


def select(profile, **options):
    return selected(profile, Options(**options))


def test_a_selection_comes_back_as_it_was_written(tmp_path):
    write_record(tmp_path / "selection.json", PROFILE)
    assert read_record(tmp_path / "selection.json", Selection) == PROFILE


def test_a_limited_estimator_is_measured_on_its_own_cases_alone(store):
    profile = dataclasses.replace(
        PROFILE, estimators=("backprop", "forward"), limited=(("forward", "oth*", "too long"),)
    )
    assert profile.pairs == [(TINY, "backprop"), (OTHER, "backprop"), (OTHER, "forward")]
    costs = Run(profile, store).costs
    assert {(each.case, each.estimator) for each in costs} == set(profile.pairs)
    # What a user names is measured on all cases, and so is everything on cases that the user made.
    assert (
        len(select(profile, estimators=["forward"]).pairs)
        == len(select(profile, seeds=1).pairs)
        == 4
    )


def test_a_pair_that_cannot_be_is_planned_only_where_the_user_asks_for_the_algorithm():
    profile = dataclasses.replace(PROFILE, limited=(("backprop", "!oth*", "has no layers"),))
    assert profile.pairs == select(profile, estimators=["backprop"]).pairs == [(TINY, "backprop")]
    assert len(select(profile, cases=["other"], algorithms=["fista"]).pairs) == 1


def test_times_on_the_torch_path_are_taken_at_depths_of_their_own(store):
    profile = dataclasses.replace(PROFILE, cases=(TINY,), timed_depths=(1, 5), torch_depths=(5,))
    times = {(each.metric, each.depth) for each in Run(profile, store).costs}
    assert times >= {("seconds", 1), ("seconds", 5), ("seconds_torch", 5)}
    assert ("seconds_torch", 1) not in times
    # Depths that a user names take the place of both; a profile without such times gets none.
    assert (
        select(profile, depths=[1]).torch_depths == (1,)
        and select(PROFILE, depths=[1]).torch_depths == ()
    )


def test_beside_a_plugin_the_torch_path_of_all_is_timed(store, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from pudle.estimators.backprop import Backprop\nclass Mine(Backprop): ...\n")
    profile = dataclasses.replace(PROFILE, cases=(TINY,))
    for added in ([], [f"{file}:Mine"]):
        chosen = select(profile, estimators=added)
        costs = [each for each in Run(chosen, store).costs if each.metric == "seconds_torch"]
        assert {each.estimator for each in costs} == (set(chosen.estimators) if added else set())


@pytest.mark.parametrize(
    "change, text",
    [
        ({"seeds": ()}, "seeds is empty"),
        ({"depths": (-1,)}, "depths=-1 is too small"),
        ({"targets": ("truth",)}, "target='truth' is unknown: choose from exact"),
        ({"dtype": "int8"}, "dtype='int8' is unknown"),
    ],
)
def test_a_case_that_cannot_be_measured_is_refused(change, text):
    with pytest.raises(InvalidArgument, match=text):
        dataclasses.replace(TINY, **change)


def names(selection):
    return [case.name for case in selection.cases]


def test_estimators_are_added_and_other_options_take_the_place_of_the_profiles():
    assert select(PROFILE) == PROFILE
    specs = ["truncated(window=3)", "backprop", "implicit"]
    chosen = select(PROFILE, estimators=specs, device="cuda")
    assert chosen.estimators == ("backprop", "truncated(window=3)", "analytic")
    assert (chosen.device, chosen.cases) == ("cuda", PROFILE.cases)
    assert select(PROFILE, estimators=["analytic"], only=True).estimators == ("analytic",)


def test_datasets_algorithms_and_losses_are_crossed():
    options = {
        "datasets": ["digits", "ridge"],
        "algorithms": ["fista", "ista(step=0.1)"],
        "losses": ["lasso", "linear"],
    }
    chosen = select(
        PROFILE, **options, depths=[7, 3, 7], seeds=4, samples=25, targets=["exact", "limit"]
    )
    assert len(chosen.cases) == len({case.name for case in chosen.cases}) == 8
    datasets = ("digits(n_samples=25)", "ridge(n_samples=25)")
    crossed = {(case.dataset, case.algorithm, case.loss) for case in chosen.cases}
    assert crossed == {*product(datasets, options["algorithms"], options["losses"])}
    for case in chosen.cases:
        assert (case.depths, case.seeds, case.targets) == ((3, 7), (0, 1, 2, 3), ("exact", "limit"))
    assert chosen.tracked_depths == chosen.timed_depths == (3, 7)
    assert "digits_n_samples_25-ista_step_0.1-lasso-exact-limit-4_seeds" in names(chosen)
    # A dataset alone has all of its losses.
    alone = select(PROFILE, datasets=["sparse_gaussian(n_samples=10)"])
    assert names(alone) == [
        f"sparse_gaussian_n_samples_10-ista-{loss}" for loss in ("lasso", "reconstruction")
    ]


def test_an_option_alone_changes_the_profiles_own_cases():
    """A case that is left as it was, but for its depths, keeps its name; any other gets a name of
    its own, which never is another's.
    """
    for options in ({}, {"depths": [2]}):
        assert names(select(PROFILE, losses=["lasso"], **options)) == ["tiny"]
    slug = "sparse_gaussian_n_samples_20_n_features_10_n_components_15_n_nonzero_coefs_2"
    changed = [f"{slug}-fista-lasso", f"{slug}-fista-reconstruction"]
    assert names(select(PROFILE, algorithms=["fista"])) == changed
    assert names(select(PROFILE, seeds=3)) == [f"{case.name}-3_seeds" for case in PROFILE.cases]
    assert "(n_samples=7," in select(PROFILE, samples=7).cases[0].dataset
    taken = dataclasses.replace(TINY, name="sparse_gaussian-ista-lasso")
    added = select(dataclasses.replace(PROFILE, cases=(taken,)), datasets=["sparse_gaussian"])
    assert names(added)[0] == "sparse_gaussian-ista-lasso-added"


def test_the_target_follows_from_the_thresholding_unless_one_is_given():
    hard = {"algorithms": ["ista(thresholding='hard')"]}
    for options, target in (
        (hard, "limit"),
        (hard | {"targets": ["gstar"]}, "gstar"),
        ({"datasets": ["digits"]}, "exact"),
        (hard | {"datasets": ["digits"]}, "limit"),
    ):
        assert {case.targets for case in select(PROFILE, **options).cases} == {(target,)}


OPTIONS = st.dictionaries(
    st.sampled_from(["a", "a_b", "n", "n_a"]),
    st.one_of(
        st.text(max_size=5),
        st.integers(-3, 3),
        st.floats(allow_nan=False, allow_infinity=False),
        st.none(),
        st.lists(st.integers(0, 3)),
    ),
    max_size=3,
)


@given(OPTIONS, OPTIONS)
def test_no_two_specs_have_one_name(first, second):
    made = [
        f"x({', '.join(f'{key}={value!r}' for key, value in each.items())})"
        for each in (first, second)
    ]
    named = [spec_slug(spec, Path("/results")) for spec in made]
    assert named[0] != named[1] or parse(made[0]) == parse(made[1])


def test_experiments_are_those_that_are_named_or_of_the_whole_profile():
    profile = dataclasses.replace(PROFILE, experiments=("optimizers-sgd-1-backprop-lasso",))
    assert select(profile).experiments == profile.experiments
    assert select(profile, cases=["tiny"]).experiments == ()
    named = select(profile, experiments=["interpretation-*"])
    assert named.experiments and named.cases == ()
    assert all(name.startswith("interpretation-") for name in named.experiments)
    assert names(select(profile, experiments=["interpretation-*"], cases=["tiny"])) == ["tiny"]
    with pytest.raises(InvalidArgument, match="matches no experiment: `pudle list experiments`"):
        select(profile, experiments=["nothing-*"])


@pytest.mark.parametrize("changed", [{"seeds": 2}, {"samples": 5}, {"depths": [3]}])
def test_what_changes_cases_alone_is_refused_beside_experiments(changed):
    """It would measure all cases of the profile, and change no experiment."""
    with pytest.raises(InvalidArgument, match="change cases, not experiments"):
        select(PROFILE, experiments=["interpretation-*"], **changed)
    assert names(select(PROFILE, experiments=["interpretation-*"], cases=["tiny"], **changed))


def test_patterns_narrow_a_profile_also_where_other_options_change_its_cases():
    assert names(select(PROFILE, cases=["o*", "tin?"])) == ["tiny", "other"]
    (changed,) = select(QUICK, cases=["sparse_gaussian-ista-lasso"], seeds=1).cases
    assert (changed.seeds, changed.loss) == ((0,), "lasso")
    assert select(QUICK, cases=[changed.name], seeds=1).cases == (changed,)
    with pytest.raises(InvalidArgument, match="matches no case"):
        select(QUICK, cases=["absent"], seeds=1)


def test_every_registered_estimator_is_in_the_default_profile():
    """Exceptions are pairs of an estimator and cases, each with a reason."""
    default = list_profiles()["default"]
    built_in = {
        name for name, cls in list_estimators().items() if cls.__module__.startswith("pudle.")
    }
    assert {parse(spec)[0] for spec in default.estimators} >= built_in
    measured = {estimator for _, estimator in default.pairs}
    assert measured == set(default.estimators)
    for estimator, pattern, reason in default.limited:
        assert estimator in default.estimators and reason
        cases = [case.name for case in list_profiles()["paper"].cases]
        assert any(fnmatch(case, pattern.removeprefix("!")) for case in cases), pattern
