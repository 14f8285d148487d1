"""Specs: parsed from text, written back unchanged, and never evaluated."""

import keyword
import pickle
import string
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles.comparisons import refusal

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


def written(name, arguments):
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


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
        assert name and isinstance(arguments, dict)


def test_defaults_are_left_out():
    assert names.text(pudle.make_estimator("backprop()")) == "backprop"
    assert names.text(pudle.make_algorithm("ista(step=None)")) == "ista"
    text = f"sparse_gaussian(n_nonzero_coefs=3, amplitudes='gaussian', noise=0.1, seed={2**63})"
    dataset = pudle.make_dataset(text.replace("(", "(n_samples=1000, "))
    assert names.text(dataset) == text and pudle.make_dataset(text) == dataset


def test_a_spec_has_its_object_made_once_and_travels_as_text(monkeypatch):
    """An object that is given stays in its process, where no other could make it."""
    spec = names.canonical("estimators", "truncated(window=3)")
    given = names.Spec("estimators", "given", pudle.make_estimator("backprop"))
    lazy = names.Spec("estimators", "truncated(window=3)")
    assert lazy == spec and lazy.made == spec.made and lazy.made is not spec.made
    with monkeypatch.context() as patch:
        patch.setattr(names, "build", lambda *_: pytest.fail("made again"))
        for each in (spec, given, lazy):
            (kept,) = names.specs("estimators", [each])
            assert pudle.make_estimator(kept) is kept.made is each.made
    there = pickle.loads(pickle.dumps([spec, given]))
    assert there == [spec, given] and there[0].made == spec.made
    with pytest.raises(SpecError, match="unknown estimator 'given'"):
        there[1].made  # noqa: B018  # it is made when it is asked for


MALFORMED = """
truncated(window=10
truncated window=10
truncated(10)
truncated(**{'window': 10})
truncated(window=10)(window=10)
truncated(window=10, window=20)
truncated(window=10).estimate
pudle.truncated(window=10)
lambda: 1
backprop; import os
""".strip().splitlines()
MALFORMED += ["", "backprop\nanalytic", "\0", "(" * 500]
MALFORMED += ["truncated(window=" + "-" * 100_000 + "1)"]


@pytest.mark.parametrize("spec", MALFORMED, ids=lambda spec: repr(spec)[:40])
def test_malformed(spec):
    text = refusal(lambda: pudle.make_estimator(spec), SpecError)
    assert text.startswith(("malformed spec ", "spec ")) and "write" in text


#: Values that would have an effect if they were evaluated.
CALLS = """
__import__('os').system('true')
open('{path}', 'w')
[open('{path}', 'w') for _ in range(1)]
f'{{open(chr(47))}}'
5 if open('{path}', 'w') else 6
10**10**10
window
""".strip().splitlines()


@pytest.mark.parametrize("value", CALLS)
def test_nothing_is_ever_called(value, tmp_path):
    """A value that would have an effect if it were evaluated is refused, and the effect does not
    happen.
    """
    target = tmp_path / "evidence"
    spec = f"truncated(window={value.format(path=target)})"
    modules = set(sys.modules)
    text = refusal(lambda: pudle.make_estimator(spec), SpecError)
    assert "window is not a literal, and a spec never calls or computes anything" in text
    assert not target.exists() and set(sys.modules) == modules


@pytest.mark.parametrize(
    "make, spec, text",
    [
        (pudle.make_estimator, "nope", "unknown estimator 'nope': known are a_posteriori, alt"),
        (pudle.make_algorithm, "fist", "unknown algorithm 'fist' (did you mean 'fista'?)"),
    ],
)
def test_unknown_name_suggests_the_nearest(make, spec, text):
    said = refusal(lambda: make(spec), SpecError)
    assert said.startswith(text) and said.endswith(", and your own as path/file.py")


@pytest.mark.parametrize(
    "spec, text",
    [
        ("truncated(windw=3)", "truncated has no argument 'windw' (did you mean 'window'?)"),
        ("backprop(window=3)", "backprop has no argument 'window'; it takes no arguments"),
        ("truncated", "truncated needs window"),
        ("truncated(window=0)", "window=0 is too small: give a whole number >= 1"),
    ],
)
def test_bad_arguments(spec, text):
    said = refusal(lambda: pudle.make_estimator(spec), SpecError)
    assert said.startswith(f"spec {spec!r}: {text}")


OPTIONS = """
from dataclasses import dataclass
from typing import ClassVar, Optional

import pudle

@dataclass(frozen=True)
class Mine(pudle.GradientEstimator):
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

    def estimate(self, problem, algorithm, depth): ...
"""


@pytest.fixture
def make_mine(tmp_path, monkeypatch):
    """Make an object of a file of the user's with options of all plain types."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OPTIONS)
    return lambda options: pudle.make_estimator(f"mine.py({options})")


@pytest.mark.parametrize(
    "option, text",
    [
        ("window=2.0", "window=2.0 is of type float: give int"),
        ("window=None", "window=None is of type NoneType: give int"),
        ("share=True", "share=True is of type bool: give float"),
        ("whole=1", "whole=1 is of type int: give bool"),
        ("rule=1", "rule=1 is of type int: give str"),
        ("most='all'", "most='all' is of type str: give Optional[int]"),
        ("least=[1]", "least=[1] is of type list: give float | None"),
    ],
)
def test_an_option_of_another_type_than_it_states_is_refused(option, text, make_mine):
    spec = f"mine.py({option})"
    assert refusal(lambda: make_mine(option), SpecError) == f"spec {spec!r}: {text}"


@pytest.mark.parametrize(
    "options",
    ["share=1", "most=None", "most=3", "least=2", "any='x'", "sizes=(1, 'x')", "rule='x'"],
)
def test_an_option_of_the_type_that_it_states_is_taken(options, make_mine):
    assert make_mine(options) is not None


@pytest.mark.parametrize(
    "spec, moved",
    [
        ("lib/mine.py:Mine(window=3)", "/far/mine.py:Mine(window=3)"),
        ("lib/mine.py(path='x.py')", "/far/mine.py(path='/far/x.py')"),
        ("array(path='lib/x.csv', n_samples=3)", "array(path='/far/x.csv', n_samples=3)"),
        ("backprop", "backprop"),
    ],
)
def test_the_files_of_a_spec_can_be_named_from_elsewhere(spec, moved):
    assert names.move_paths(spec, lambda path: Path("/far") / path.name, ["path"]) == moved
