"""Specs: parsed from text, written back unchanged, and never evaluated."""

from __future__ import annotations

import keyword
import string
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pudle
from pudle import names
from pudle.errors import SpecError

identifiers = st.text(string.ascii_letters + "_", min_size=1, max_size=12).filter(
    lambda name: not keyword.iskeyword(name)
)
scalars = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.booleans(),
    st.none(),
)
literals = st.one_of(
    scalars, st.lists(scalars, max_size=3), st.lists(scalars, max_size=3).map(tuple)
)


def written(name: str, arguments: dict) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def one_line(failure) -> str:
    text = str(failure.value)
    assert len(text.splitlines()) == 1
    return text


@settings(max_examples=100, derandomize=True, deadline=None)
@given(identifiers, st.dictionaries(identifiers, literals, max_size=4))
def test_parse_reads_what_was_written(name, arguments):
    read_name, read = names.parse(written(name, arguments))
    assert (read_name, read) == (name, arguments)
    assert {key: type(value) for key, value in read.items()} == {
        key: type(value) for key, value in arguments.items()
    }


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=30) | st.text("abc(=),'\"[]{}*.:;\\ \n1", max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        name, arguments = names.parse(text)
    except SpecError as refusal:
        assert len(str(refusal).splitlines()) == 1
    else:
        assert (name.isidentifier() or names.file_of(name)) and isinstance(arguments, dict)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.integers(1, 10**9))
def test_estimator_round_trip(window):
    estimator = pudle.make_estimator(f"truncated(window={window})")
    assert estimator.window == window
    assert names.text(estimator) == f"truncated(window={window})"
    assert pudle.make_estimator(names.text(estimator)) == estimator


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.integers(1, 10**6),
    st.integers(0, 2**63),
    st.floats(1e-6, 1e6),
    st.sampled_from(["uniform", "gaussian"]),
)
def test_dataset_round_trip(n, seed, noise, amplitudes):
    dataset = pudle.make_dataset(
        f"sparse_gaussian(n_samples={n}, seed={seed}, noise={noise!r}, amplitudes={amplitudes!r})"
    )
    assert (dataset.n_samples, dataset.seed, dataset.noise, dataset.amplitudes) == (
        n,
        seed,
        noise,
        amplitudes,
    )
    assert pudle.make_dataset(names.text(dataset)) == dataset


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.none() | st.floats(1e-12, 1e12), st.sampled_from(["ista", "fista"]))
def test_algorithm_round_trip(step, name):
    algorithm = pudle.make_algorithm(f"{name}(step={step!r})")
    assert algorithm.step == step
    assert pudle.make_algorithm(names.text(algorithm)) == algorithm


def test_defaults_are_left_out():
    assert names.text(pudle.make_estimator("backprop()")) == "backprop"
    assert names.text(pudle.make_algorithm("ista(step=None)")) == "ista"
    assert (
        names.text(pudle.make_dataset("sparse_gaussian(n_samples=1000, seed=3)"))
        == "sparse_gaussian(seed=3)"
    )


def test_white_space_does_not_matter():
    assert pudle.make_estimator("  truncated( window = 4 )\n") == pudle.make_estimator(
        "truncated(window=4)"
    )


@pytest.mark.parametrize(
    "alias, name",
    [
        ("implicit", "analytic"),
        ("g_dec", "alternating"),
        ("g_ae", "backprop"),
        ("k_rmd(window=2)", "truncated"),
    ],
)
def test_aliases_resolve(alias, name):
    estimator = pudle.make_estimator(alias)
    assert estimator.name == name and names.text(estimator).startswith(name)


MALFORMED = [
    "",
    " ",
    "truncated(",
    "truncated(window=10",
    "truncated window=10",
    "truncated(10)",
    "truncated(*[10])",
    "truncated(**{'window': 10})",
    "truncated(window=10)(window=10)",
    "truncated(window=10, window=20)",
    "truncated(window=10).estimate",
    "pudle.truncated(window=10)",
    "truncated[10]",
    "lambda: 1",
    "1",
    "'backprop'",
    "backprop; import os",
    "backprop, analytic",
    "backprop\nanalytic",
    "window=10",
    "\0",
    "(" * 500,
    "truncated(window=" + "-" * 100_000 + "1)",
]


@pytest.mark.parametrize("spec", MALFORMED, ids=lambda spec: repr(spec)[:40])
def test_malformed(spec):
    with pytest.raises(SpecError) as failure:
        pudle.make_estimator(spec)
    text = one_line(failure)
    assert text.startswith(("malformed spec ", "spec "))
    assert "write" in text


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os')",
        "__import__('os').system('true')",
        "open('{path}', 'w')",
        "open('{path}', 'w').close() or 5",
        "[open('{path}', 'w')]",
        "{{'a': open('{path}', 'w')}}",
        "(lambda: open('{path}', 'w'))()",
        "[open('{path}', 'w') for _ in range(1)]",
        "(x := open('{path}', 'w'))",
        "f'{{open(chr(47))}}'",
        "5 if open('{path}', 'w') else 6",
        "10**10**10",
        "'a' * 10**12",
        "window",
        "exit()",
    ],
)
def test_nothing_is_ever_called(value, tmp_path):
    """A value that would have an effect if it were evaluated is refused, and the effect does not
    happen.
    """
    target = tmp_path / "evidence"
    spec = f"truncated(window={value.format(path=target)})"
    modules = set(sys.modules)
    with pytest.raises(SpecError) as failure:
        pudle.make_estimator(spec)
    assert "window is not a literal, and a spec never calls or computes anything" in one_line(
        failure
    )
    assert not target.exists()
    assert set(sys.modules) == modules


def test_a_call_instead_of_the_name_is_refused(tmp_path):
    target = tmp_path / "evidence"
    with pytest.raises(SpecError, match="malformed spec"):
        pudle.make_estimator(f"open({str(target)!r}, 'w')(window=1)")
    with pytest.raises(SpecError, match="unknown estimator 'open'"):
        pudle.make_estimator(f"open(file={str(target)!r}, mode='w')")
    assert not target.exists()


@pytest.mark.parametrize(
    "make, spec, text",
    [
        (
            pudle.make_estimator,
            "bakprop",
            "unknown estimator 'bakprop' (did you mean 'backprop'?): known are ",
        ),
        (
            pudle.make_estimator,
            "truncted(window=3)",
            "unknown estimator 'truncted' (did you mean 'truncated'?)",
        ),
        (pudle.make_estimator, "implict", "unknown estimator 'implict' (did you mean 'implicit'?)"),
        (pudle.make_estimator, "zzz", "unknown estimator 'zzz': known are "),
        (
            pudle.make_dataset,
            "sparse_gausian(n=3)",
            "unknown dataset 'sparse_gausian' (did you mean 'sparse_gaussian'?)",
        ),
        (pudle.make_algorithm, "fist", "unknown algorithm 'fist' (did you mean 'fista'?)"),
    ],
)
def test_unknown_name_suggests_the_nearest(make, spec, text):
    with pytest.raises(SpecError) as failure:
        make(spec)
    assert one_line(failure).startswith(text)


@pytest.mark.parametrize("make", [pudle.make_estimator, pudle.make_dataset, pudle.make_algorithm])
def test_an_unknown_name_says_how_an_own_one_is_named(make):
    with pytest.raises(SpecError) as failure:
        make("zzz")
    assert one_line(failure).endswith(", and your own as path/file.py")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SpecError) as failure:
        pudle.make_estimator("zzz")
    for name in pudle.list_estimators():
        assert name in one_line(failure)


@pytest.mark.parametrize(
    "spec, text",
    [
        (
            "truncated(windw=3)",
            "truncated has no argument 'windw' (did you mean 'window'?); it takes window",
        ),
        ("backprop(window=3)", "backprop has no argument 'window'; it takes no arguments"),
        ("truncated", "truncated needs window"),
        ("truncated(window=0)", "window=0 is too small: give a whole number >= 1"),
        ("truncated(window=-4)", "window=-4 is too small: give a whole number >= 1"),
        ("truncated(window=2.5)", "window=2.5 is not an integer: give a whole number >= 1"),
        ("truncated(window='ten')", "window='ten' is not an integer: give a whole number >= 1"),
        ("truncated(window=True)", "window=True is not an integer: give a whole number >= 1"),
        ("truncated(window=None)", "window=None is not an integer: give a whole number >= 1"),
    ],
)
def test_bad_arguments_of_an_estimator(spec, text):
    with pytest.raises(SpecError) as failure:
        pudle.make_estimator(spec)
    message = one_line(failure)
    assert message.startswith(f"spec {spec!r}: {text}")


@pytest.mark.parametrize(
    "make, spec, text",
    [
        (
            pudle.make_dataset,
            "sparse_gaussian(n_samples=0)",
            "n_samples=0 is too small: give a whole number >= 1",
        ),
        (
            pudle.make_dataset,
            "sparse_gaussian(penalty=0)",
            "penalty=0 is out of range: give a number > 0",
        ),
        (
            pudle.make_dataset,
            "sparse_gaussian(seed=-1)",
            "seed=-1 is too small: give a whole number >= 0",
        ),
        (
            pudle.make_dataset,
            "sparse_gaussian(n_nonzero_coefs=200)",
            "n_nonzero_coefs=200 is above n_components=100",
        ),
        (
            pudle.make_dataset,
            "sparse_gaussian(amplitudes='normal')",
            "amplitudes='normal' is unknown: choose from ",
        ),
        (pudle.make_dataset, "sparse_gaussian(rows=3)", "sparse_gaussian has no argument 'rows'"),
        (pudle.make_algorithm, "ista(step=-1)", "step=-1 is out of range: give a number > 0"),
        (
            pudle.make_algorithm,
            "ista(step='big')",
            "step='big' is not a finite number: give a number > 0",
        ),
        (
            pudle.make_algorithm,
            "ista(steps=1)",
            "ista has no argument 'steps' (did you mean 'step'?)",
        ),
    ],
)
def test_bad_arguments_elsewhere(make, spec, text):
    with pytest.raises(SpecError) as failure:
        make(spec)
    assert one_line(failure).startswith(f"spec {spec!r}: {text}")


OPTIONS = """
from dataclasses import dataclass
from typing import ClassVar, Optional

import pudle
from pudle.algorithms import Algorithm

@dataclass(frozen=True)
class Mine(pudle.{base}):
    name: ClassVar[str] = "mine"
    computes: ClassVar[str] = "direct"
    window: int = 10
    share: float = 0.5
    whole: bool = False
    rule: str = "best"
    most: Optional[int] = None
    least: "float | None" = None
    any: object = None
    sizes: tuple[int, ...] = ()

    def __post_init__(self):
        self.window > 0

    {methods}
"""
BASES = {
    "make_estimator": ("GradientEstimator", "def estimate(self, problem, algorithm, depth): ..."),
    "make_dataset": ("Dataset", "def problem(self, loss='lasso', **options): ..."),
    "make_algorithm": ("Ista", ""),
}


@pytest.fixture(params=BASES)
def make_mine(request, tmp_path, monkeypatch):
    """Make an object of a file of the user's with options of all plain types."""
    monkeypatch.chdir(tmp_path)
    base, methods = BASES[request.param]
    Path("mine.py").write_text(OPTIONS.format(base=base, methods=methods))
    return lambda options: getattr(pudle, request.param)(f"mine.py({options})")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("window='three'", "window='three' is of type str: give a whole number"),
        ("window=2.0", "window=2.0 is of type float: give a whole number"),
        ("window=True", "window=True is of type bool: give a whole number"),
        ("window=None", "window=None is of type NoneType: give a whole number"),
        ("share='half'", "share='half' is of type str: give a number"),
        ("share=True", "share=True is of type bool: give a number"),
        ("whole=1", "whole=1 is of type int: give True or False"),
        ("rule=1", "rule=1 is of type int: give text in quotes"),
        ("most='all'", "most='all' is of type str: give a whole number or None"),
        ("least=[1]", "least=[1] is of type list: give a number or None"),
    ],
)
def test_an_option_of_another_type_than_it_states_is_refused(option, text, make_mine):
    with pytest.raises(SpecError) as failure:
        make_mine(option)
    spec = f"mine.py({option})"
    assert one_line(failure) == f"spec {spec!r}: {text}"


@pytest.mark.parametrize(
    "options",
    ["share=1", "most=None", "most=3", "least=2", "any='x'", "sizes=(1, 'x')", "rule='x'"],
)
def test_an_option_of_the_type_that_it_states_is_taken(options, make_mine):
    assert make_mine(options) is not None


@pytest.mark.parametrize(
    ("spec", "moved"),
    [
        ("lib/mine.py", "/far/mine.py"),
        ("lib/mine.py:Mine(window=3)", "/far/mine.py:Mine(window=3)"),
        ("lib/mine.py(path='x.py')", "/far/mine.py(path='/far/x.py')"),
        ("array(path='lib/x.csv', n_samples=3)", "array(path='/far/x.csv', n_samples=3)"),
        ("array(path=None)", "array(path=None)"),
        ("ista(thresholding='lib/mine.py')", "ista(thresholding='lib/mine.py')"),
        ("backprop", "backprop"),
    ],
)
def test_the_files_of_a_spec_can_be_named_from_elsewhere(spec, moved):
    assert names.placed(spec, lambda path: Path("/far") / path.name, ["path"]) == moved
