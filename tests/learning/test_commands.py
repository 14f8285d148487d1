"""`pudle learn` and `pudle denoise`: files, resumption, and refusals of one line."""

import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pytest
from commands import call
from learning_helpers import save_images, texture
from PIL import Image

import pudle
from pudle import Learner
from pudle.learning.run import CHECKPOINT, DICTIONARY_FILE, HISTORY_FILE

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


def options_in(folder):
    return json.loads((folder / "results.json").read_text())["options"]


def test_files_resume_and_refusals(run, tmp_path):
    options, here = [*SMALL, "--optimizer", "sgd", "--out", "here"], tmp_path / "here"
    code, out, err = run(*options, "--epochs", "2")
    assert code == 0 and err == "", err
    assert "backprop with sgd: 6 steps" in out and "dictionary error" in out
    pictures = {"curve.png", "dictionary.png"}
    files = {CHECKPOINT, DICTIONARY_FILE, HISTORY_FILE, "results.json", *pictures}
    assert {path.name for path in here.iterdir()} == files
    with Image.open(here / "dictionary.png") as image:
        # 18 atoms of 4 x 4 in rows of 5, with lines between them.
        assert image.size == (24, 19)
    assert run(*options, "--epochs", "4", "--resume")[0] == 0
    problem = pudle.LearningExperiment(DATASET).problem()
    whole = Learner("backprop", "ista", 5, "sgd", epochs=4, batch=20).fit(problem)
    np.testing.assert_array_equal(np.load(here / DICTIONARY_FILE), whole.dictionary.numpy())
    assert options_in(here)["epochs"] == 4


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
    options = [*SMALL, "--epochs", "2", "--optimizer", "sgd(learning_rate=0.05)"]
    assert run(*options, "--out", "one")[0] == 0
    # In the other order of bytes.
    np.save(tmp_path / "start.npy", np.load(tmp_path / "one" / DICTIONARY_FILE).astype(">f8"))
    assert run(*options, "--start", tmp_path / "start.npy", "--out", "two")[0] == 0
    # Plain gradient descent keeps nothing but the dictionary, and both take the samples in the same
    # order.
    problem = pudle.LearningExperiment(DATASET).problem()
    learner = Learner("backprop", "ista", 5, "sgd(learning_rate=0.05)", epochs=2, batch=20)
    once = learner.fit(problem)
    twice = learner.fit(dataclasses.replace(problem, dictionary=once.dictionary))
    two = np.load(tmp_path / "two" / DICTIONARY_FILE)
    np.testing.assert_array_equal(two, twice.dictionary.numpy())


@pytest.mark.parametrize(
    "content, text",
    [
        (None, "start='start.npy' cannot be read"),
        (b"\x93NUMPY\x01\x00\x08\x00{'descr'", "is not a whole array of numbers (.npy)"),
        (np.ones((16, 17)), "of shape (16, 17): give finite real numbers of the shape (16, 18)"),
        (np.ones((16, 18), dtype=complex), "holds complex128"),
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
        (["learn", "--experiment", "2a-T25-backprp-lasso"], "mean '2a-T25-backprop-lasso'"),
        (["denoise", "--experiment", "denoising-wavelet"], "give --baseline 'wavelet'"),
        (["denoise", "--validation", -1], "validation=-1 is too small"),
        (["denoise", "--baseline", "median"], "choose from BM3D, non-local means, wavelet"),
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


def test_denoising_writes_a_table_and_pictures(run, denoising, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setitem(sys.modules, "bm3d", None)
    more = ["--epochs", 1, "--baseline", "total variation", "--baseline", "BM3D"]
    code, printed, err = run(*denoising, *more)
    assert code == 0 and "BM3D is left out: install pudle[baselines]" in err
    results = json.loads((out / "results.json").read_text())["results"]
    assert list(results) == ["backprop, reconstruction, supervised", "total variation"]
    assert options_in(out)["training"]["epochs"] == 1
    for name, result in results.items():
        (line,) = (line for line in printed.splitlines() if line.startswith(name))
        assert f"{result['psnr']:.4g}" in line
        assert (out / f"{name.replace(',', '').replace(' ', '-')}.png").exists()
    assert list(pd.read_csv(out / "history.csv").step) == [0, 8]
    with Image.open(out / "noisy.png") as image:
        assert image.size == (70, 60)
    assert (out / "filters.png").exists() and (out / "curve.png").exists()
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
