"""`pudle advise`: its exit codes, and what it prints."""

from __future__ import annotations

import sys

import pytest

from pudle import cli

SMALL = "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)"


def run(monkeypatch, capsys, *arguments):
    """Run the command in this process; return its exit code, and what it printed on both."""
    monkeypatch.setattr(sys, "argv", ["pudle", "advise", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, *capsys.readouterr()


def test_an_advice_is_0(monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch, capsys, "backprop", "--dataset", SMALL, "--error", "0.1", "--seeds", "3"
    )
    assert (
        code == 0
        and out.startswith("backprop at ")
        and "error at most 0.1 against the exact gradient on 3 of 3 seeds" in out
    )


def test_no_advice_is_1(monkeypatch, capsys):
    options = [
        "--dataset",
        SMALL,
        "--loss",
        "reconstruction",
        "--error",
        "1e-3",
        "--seeds",
        "2",
        "--most-depth",
        "50",
        "--train",
    ]
    code, out, err = run(monkeypatch, capsys, "alternating", *options)
    assert (
        code == 1
        and out.startswith("Nothing meets the requirement")
        and "no training: there is no advice to try" in err
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "Missing option '--dataset'"),
        (["--dataset", SMALL, "--memory", "much"], "'much' is no size"),
        (["--dataset", SMALL, "--error", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_wrong_usage_is_2(monkeypatch, capsys, options, text):
    code, out, err = run(monkeypatch, capsys, *options)
    assert code == 2 and text in err and out == "" and len(err.splitlines()) == 1


def test_a_training_says_whether_the_advice_holds(monkeypatch, capsys):
    options = ["--dataset", SMALL, "--error", "0.1", "--seeds", "3", "--train"]
    code, out, _ = run(monkeypatch, capsys, "backprop", "alternating", *options)
    assert (
        code == 0
        and "20 steps of adam(learning_rate=0.01): the loss " in out
        and "the advice " in out
    )


def test_a_training_needs_a_dictionary(monkeypatch, capsys):
    options = ["--dataset", "ridge(kappa=5.0)", "--error", "0.1", "--seeds", "2", "--train"]
    code, _, err = run(monkeypatch, capsys, "backprop", "analytic", *options)
    assert code == 2 and "a training learns a dictionary" in err
