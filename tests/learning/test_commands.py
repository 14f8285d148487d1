"""`pudle learn` and `pudle denoise`: files, resumption, and refusals of one line."""

import json

import numpy as np
import pandas as pd
import pytest
from support.problems.learning import save_images, texture
from support.processes.commands import call

import pudle
from pudle import Learner
from pudle.learning.checkpoint import CHECKPOINT, DICTIONARY_FILE, HISTORY_FILE
from pudle.reports.load import ShownExperiment

DATASET = (
    "sparse_gaussian(n_samples=60, n_features=16, n_components=18, n_nonzero_coefs=2,"
    " perturbation=0.1)"
)
SMALL = ["learn", "--dataset", DATASET, "--depth", "5", "--batch", "20"]


@pytest.fixture
def run(tmp_path):
    """The program in a folder of its own: exit code, output, errors."""

    def command(*arguments):
        done = call(*arguments, cwd=tmp_path)
        one_line = done.stderr.startswith("pudle: error: ") and done.stderr.count("\n") == 1
        assert done.returncode == 0 or one_line, done.stderr
        return done.returncode, done.stdout, done.stderr

    return command


def stored(folder):
    """The records that the folder of a command lists, by name."""
    listed = json.loads((folder / "run.json").read_text())["experiments"]
    return {name: ShownExperiment.read(folder / "store" / place) for name, place in listed.items()}


def test_files_resume_and_the_report(run, tmp_path):
    options, here = [*SMALL, "--optimizer", "sgd", "--gradient-error", 3], tmp_path / "here"
    options += ["--out", "here"]
    code, out, err = run(*options, "--epochs", "2")
    assert code == 0 and err == "", err
    assert "backprop with sgd: dictionary error" in out and "steps 6" in out
    assert "gradient error" in out and "gradient gap 0; results in here" in out
    files = {CHECKPOINT, DICTIONARY_FILE, HISTORY_FILE, "run.json", "store"}
    assert {path.name for path in here.iterdir()} == files
    assert run(*options, "--epochs", "4", "--resume")[0] == 0
    problem = pudle.LearningExperiment(DATASET).problem()
    whole = Learner("backprop", "ista", 5, "sgd", epochs=4, batch=20).fit(problem)
    np.testing.assert_array_equal(np.load(here / DICTIONARY_FILE), whole.dictionary.numpy())
    (record,) = stored(here).values()
    assert (record.kind, record.options["epochs"], record.summary["steps"]) == ("learning", 4, 12)
    assert run("report", "here", "--format", "markdown")[0] == 0
    report = (here / "report" / "report.md").read_text()
    assert "## Dictionaries recovered" in report and "| `backprop` | 5 |" in report


def test_a_divergence_keeps_the_history_and_ends_alike_when_resumed(run, tmp_path):
    options = [*SMALL, "--optimizer", "sgd(learning_rate=1e308)", "--out", "here"]
    code, _, err = run(*options)
    assert code == 2 and "diverged in step 1 of 300: an atom is zero, NaN or infinite" in err
    assert "the history up to there is in here, and --resume leads no further" in err
    assert (tmp_path / "here" / HISTORY_FILE).read_bytes().count(b"\n") == 2
    assert run(*options, "--resume")[::2] == (2, err)


def test_a_warning_is_a_line_on_stderr(run):
    options = ["--epochs", 1, "--record-every", 1, "--out", "here"]
    code, _, err = run(*SMALL, "--optimizer", "sgd(learning_rate=1000.0)", *options)
    assert code == 0 and err.startswith("pudle: warning: ") and "the loss rose" in err
    assert err.count("\n") == 1


def test_a_training_can_start_where_another_ended(run, tmp_path):
    start = np.random.default_rng(0).standard_normal((16, 18))
    start /= np.linalg.norm(start, axis=0)
    # In the other order of bytes.
    np.save(tmp_path / "start.npy", start.astype(">f8"))
    options = ["--epochs", "0", "--start", "start.npy", "--out", "here"]
    assert run(*SMALL, *options)[0] == 0
    np.testing.assert_allclose(np.load(tmp_path / "here" / DICTIONARY_FILE), start, rtol=1e-15)


@pytest.mark.parametrize(
    "content, text",
    [
        (None, "start.npy cannot be read"),
        (b"\x93NUMPY\x01\x00\x08\x00{'descr'", "start.npy cannot be read"),
        (np.ones((16, 17)), "give a file (.npy) of a dictionary of shape (16, 18)"),
        (np.ones((16, 18), dtype=complex), "holds complex128, not real numbers"),
        (np.full((16, 18), np.nan), "NaN or infinite"),
        (np.ones((16, 18)) * (np.arange(18) > 0), "dictionary has an atom that is zero"),
    ],
)
def test_a_start_that_is_no_dictionary_is_refused(content, text, run, tmp_path):
    if isinstance(content, bytes):
        (tmp_path / "start.npy").write_bytes(content)
    elif content is not None:
        np.save(tmp_path / "start.npy", content)
    code, _, err = run(*SMALL, "--start", "start.npy", "--out", "here")
    assert code == 2 and text in err and not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["learn"], "--dataset is missing"),
        ([*SMALL, "--algorithm", "ista(step=3.0)"], "step=3.0 is above 2/L"),
        (
            [*SMALL, "--gradient-error", 0],
            "gradient_error=0 is too small: give a whole number >= 1",
        ),
        (
            [*SMALL, "--algorithm", "ista(thresholding='hard')", "--gradient-error", 1],
            "needs the exact one, which is not known",
        ),
        (["learn", "--experiment", "2a-T25-backprp-lasso"], "mean '2a-T25-backprop-lasso'"),
        (["denoise", "--experiment", "denoising-wavelet"], "`pudle run --experiment NAME` carries"),
        (["denoise", "--validation", -1], "validation=-1 is too small"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(arguments, text, run, tmp_path):
    code, out, err = run(*arguments, "--out", "x")
    assert code == 2 and out == "" and text in err and not list(tmp_path.iterdir())


@pytest.fixture
def denoising(tmp_path):
    """A short training of filters, tested on one small image."""
    folder = save_images(tmp_path / "test", {"a.png": texture(60, 70)})
    dataset = "noisy_crops(n_samples=8, size=33)"
    named = ["denoise", "--experiment", "denoising-small-backprop", "--dataset", dataset]
    return [*named, "--test-images", folder, "--out", tmp_path / "out"]


def test_denoising_stores_its_result_and_the_report_shows_images(run, denoising, tmp_path):
    out = tmp_path / "out"
    code, printed, err = run(*denoising, "--epochs", 1, "--no-shifts")
    assert code == 0 and err == ""
    (learned,) = stored(out).values()
    assert (learned.name, learned.study) == ("denoising-small-backprop", "denoising")
    assert learned.options["epochs"] == 1 and not learned.options["shifts"]
    assert printed.startswith("backprop, reconstruction, supervised: ")
    assert f" psnr {learned.summary['psnr']:.4g}" in printed
    assert learned.shown["denoised"].shape == (60, 70)
    assert learned.shown["filters"].shape == (64, 9, 9)
    assert list(pd.read_csv(out / HISTORY_FILE).step) == [0, 8]
    # Without an experiment, the step follows from the filters.
    text = "with algorithm='fista(step=0.05)', not 'fista'"
    assert text in run("denoise", *denoising[3:], "--resume")[2]


def test_denoising_refuses_torchrun(run, denoising, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "start it without torchrun" in run(*denoising)[2]


def test_every_named_experiment_makes_a_learner_and_a_dataset():
    experiments = pudle.list_experiments()
    learning = {name: each for name, each in experiments.items() if each.kind == "learning"}
    assert {"2a-T100-backprop-reconstruction", "2b-s10-hard"} <= set(learning)
    for experiment in learning.values():
        assert experiment.learner().describe()["depth"] == experiment.depth
        pudle.make_dataset(experiment.dataset)
