"""`pudle advise`: its exit codes, and what it prints."""

import pytest
from support.processes.commands import call

SMALL = "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)"


@pytest.mark.parametrize(
    ("options", "code", "texts"),
    [
        (
            ["backprop", "alternating", "--algorithm", "ista", "--error", "0.1", "--seeds", "3"]
            + ["--train"],
            0,
            [
                "error at most 0.1 on 3 of 3 seeds against the exact gradient",
                "20 steps of adam(learning_rate=0.01): the loss ",
                ": the advice ",
            ],
        ),
        (
            ["alternating", "--loss", "reconstruction", "--error", "1e-3", "--most-depth", "50"]
            + ["--train"],
            1,
            [
                "Nothing meets the requirement (error 1e-3)",
                "Closest: alternating with ",
                "No training: there is no advice to try",
            ],
        ),
    ],
)
def test_an_advice_is_0_and_none_is_1(options, code, texts):
    done = call("advise", "--dataset", SMALL, *options)
    assert done.returncode == code
    for text in texts:
        assert text in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "Missing option '--dataset'"),
        (["--dataset", SMALL, "--memory", "much"], "'much' is no size"),
        (["--dataset", SMALL, "--error", "0"], "error=0.0 is out of range"),
        (["--dataset", "ridge", "--train"], "a training learns a dictionary"),
    ],
)
def test_wrong_usage_is_2(options, text):
    done = call("advise", *options)
    assert done.returncode == 2 and text in done.stderr and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
