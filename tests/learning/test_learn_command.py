"""`pudle learn`: files, resumption, and refusals of one line."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from learning_helpers import run_command

import pudle
from pudle import Learner
from pudle.learning.checkpoint import CHECKPOINT, DICTIONARY_FILE, HISTORY_FILE


@pytest.fixture
def learn(tmp_path, monkeypatch, capsys):
    """`pudle learn` as the command line runs it, in a folder of its own: exit code, output, errors."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        return run_command("learn", arguments, monkeypatch, capsys)

    return run


SMALL = [
    "--dataset",
    (
        "sparse_gaussian(n_samples=60, n_features=12, n_components=18, n_nonzero_coefs=2,"
        " perturbation=0.1)"
    ),
    "--depth",
    "5",
    "--batch",
    "20",
]


class TestCommand:
    def test_files_resume_and_refusals(self, learn, tmp_path):
        options = [*SMALL, "--optimizer", "sgd", "--out", "here"]
        code, out, err = learn(*options, "--epochs", "2")
        assert code == 0 and err == "", err
        assert "backprop with sgd: 6 steps" in out and "dictionary error" in out
        assert {path.name for path in (tmp_path / "here").iterdir()} == {
            CHECKPOINT,
            DICTIONARY_FILE,
            HISTORY_FILE,
            "learning.json",
            "curve.png",
            "atoms.png",
        }
        code, _, err = learn(*options, "--epochs", "2")
        assert (
            code == 2
            and err.startswith("pudle: error: here holds a training already")
            and err.count("\n") == 1
        )
        code, _, err = learn(*options, "--epochs", "4", "--resume")
        assert code == 0, err
        problem = pudle.LearningExperiment(SMALL[1]).problem()
        whole = Learner("backprop", "ista", 5, "sgd", epochs=4, batch=20).fit(problem)
        np.testing.assert_array_equal(
            np.load(tmp_path / "here" / DICTIONARY_FILE), whole.dictionary.numpy()
        )
        summary = json.loads((tmp_path / "here" / "learning.json").read_text())
        assert summary["status"] == "ok" and summary["options"]["epochs"] == 4

    def test_divergence_is_one_line_and_keeps_the_history(self, learn, tmp_path):
        code, _, err = learn(*SMALL, "--optimizer", "sgd(learning_rate=1e308)", "--out", "here")
        assert code == 2 and err.count("\n") == 1, err
        assert err.startswith(
            "pudle: error: diverged in step 1 of 300: an atom is zero, NaN or infinite"
        )
        assert len(pd.read_csv(tmp_path / "here" / HISTORY_FILE)) == 1

    def test_resuming_a_diverged_training_gives_the_same_error_at_once(self, learn, tmp_path):
        options = [*SMALL, "--optimizer", "sgd(learning_rate=1e308)", "--out", "here"]
        first = learn(*options)
        history = (tmp_path / "here" / HISTORY_FILE).read_bytes()
        code, _, err = learn(*options, "--resume")
        assert (code, err) == (2, first[2]) and err.count("\n") == 1
        assert err.startswith(
            "pudle: error: diverged in step 1 of 300: an atom is zero, NaN or infinite"
        )
        assert err.endswith(
            "lower the learning rate; the history up to there is in here, and --resume leads no"
            " further: start in another folder\n"
        )
        assert (tmp_path / "here" / HISTORY_FILE).read_bytes() == history
        assert json.loads((tmp_path / "here" / "learning.json").read_text())["status"] == "diverged"

    def test_after_a_refused_step_the_same_folder_can_be_used(self, learn, tmp_path):
        options = [*SMALL, "--epochs", "1", "--out", "here"]
        code, _, err = learn(*options, "--algorithm", "ista(step=3.0)")
        assert code == 2 and "step=3.0 is above 2/L" in err and err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
        assert learn(*options, "--algorithm", "ista(step=0.1)")[0] == 0

    @pytest.mark.parametrize(
        ("dataset", "text"),
        [
            (
                "convolutional(size=4, kernel=7)",
                "kernel=7 is above size=4: filters must fit into the images",
            ),
            ("image_crops(folder='tiny')", "size=32 does not fit into 0.png (5 x 5 pixels)"),
            ("image_patches(folder='tiny')", "size=8 does not fit into 0.png (5 x 5 pixels)"),
            ("image_crops(folder='flat')", "the patches of folder='flat' are all nearly constant"),
            (
                "image_patches(folder='flat')",
                "the patches of folder='flat' are all nearly constant",
            ),
        ],
    )
    def test_images_that_are_too_small_or_constant(self, dataset, text, learn, tmp_path):
        from PIL import Image

        for folder, image in (
            ("tiny", np.eye(5, dtype=np.uint8)),
            ("flat", np.full((40, 40), 90, dtype=np.uint8)),
        ):
            (tmp_path / folder).mkdir()
            Image.fromarray(image).save(tmp_path / folder / "0.png")
        code, out, err = learn("--dataset", dataset, "--out", "here")
        assert code == 2 and out == "" and text in err and err.count("\n") == 1, err
        assert not (tmp_path / "here").exists()

    @pytest.mark.parametrize(
        ("dataset", "text"),
        [
            ("digits(n_samples=20, n_components=64)", "20 samples are fewer than the 64 atoms"),
            (
                "convolutional(n_samples=1, size=8, kernel=7, n_components=30)",
                "4 samples are fewer than the 30 atoms",
            ),
        ],
    )
    def test_fewer_samples_than_atoms_are_a_warning(self, dataset, text, learn):
        code, _, err = learn("--dataset", dataset, "--epochs", "1", "--depth", "2", "--out", "here")
        assert code == 0 and err.startswith(f"pudle: warning: {text}") and err.count("\n") == 1

    def test_warnings_are_lines_on_stderr(self, learn):
        code, out, err = learn(
            *SMALL, "--epochs", "3", "--optimizer", "sgd(learning_rate=1000.0)", "--out", "here"
        )
        assert code == 0 and out.count("\n") == 1
        assert err.startswith("pudle: warning: the loss rose from ") and err.count("\n") == 1, err

    def test_options_replace_the_values_of_a_named_experiment(self, learn, tmp_path):
        code, _, err = learn(
            "--experiment", "2a-small-T25-backprop-lasso", *SMALL, "--epochs", "1", "--out", "here"
        )
        assert code == 0, err
        options = json.loads((tmp_path / "here" / "learning.json").read_text())["options"]
        assert (
            options["depth"] == 5
            and options["algorithm"] == "ista(step=0.2)"
            and options["dataset"] == SMALL[1]
        )

    def test_a_training_can_start_where_another_ended(self, learn, tmp_path):
        options = [*SMALL, "--epochs", "2", "--optimizer", "sgd(learning_rate=0.05)"]
        assert learn(*options, "--out", "one")[0] == 0
        first_end = tmp_path / "one" / DICTIONARY_FILE
        code, _, err = learn(*options, "--start", first_end, "--out", "two")
        assert code == 0, err
        # Plain gradient descent keeps nothing but the dictionary, and both take the samples in the
        # same order.
        problem = pudle.LearningExperiment(SMALL[1]).problem()
        first = Learner("backprop", "ista", 5, "sgd(learning_rate=0.05)", epochs=2, batch=20)
        once = first.fit(problem)
        again = first.fit(dataclasses.replace(problem, dictionary=once.dictionary))
        np.testing.assert_array_equal(
            np.load(tmp_path / "two" / DICTIONARY_FILE), again.dictionary.numpy()
        )
        history = pd.read_csv(tmp_path / "two" / HISTORY_FILE)
        assert history.dictionary_error[0] == pytest.approx(
            once.history.dictionary_error.iloc[-1], rel=1e-12
        )
        assert json.loads((tmp_path / "two" / "learning.json").read_text())["options"][
            "start"
        ] == str(first_end)
        code, _, err = learn(*options, "--out", "two", "--resume")
        assert (
            code == 2
            and "two holds a training with other data or another start: resume it with" in err
        )

    def test_a_start_in_the_other_order_of_bytes_is_the_same(self, tmp_path):
        dictionary = np.random.default_rng(0).standard_normal((12, 18))
        np.save(tmp_path / "start.npy", dictionary.astype(">f8"))
        started = pudle.LearningExperiment(SMALL[1], start=str(tmp_path / "start.npy"))
        np.testing.assert_array_equal(started.problem().dictionary.numpy(), dictionary)
        plain = dataclasses.replace(started, start=None)
        assert (
            started.fingerprint().startswith(plain.fingerprint())
            and started.fingerprint() != plain.fingerprint()
        )

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (None, "start='start.npy' cannot be read: No such file or directory"),
            (b"half", "is not a whole array of numbers (.npy)"),
            (b"\x93NUMPY\x01\x00\x08\x00{'descr'", "is not a whole array of numbers (.npy)"),
            (np.ones((12, 17)), "has shape (12, 17), and the dataset's dictionary (12, 18)"),
            (np.full((12, 18), np.nan), "holds entries that are not finite"),
            (np.ones((12, 18), dtype=complex), "holds complex128, not real numbers"),
            (np.ones((12, 18)) * (np.arange(18) > 0), "dictionary has an atom that is zero"),
        ],
    )
    def test_a_start_that_is_no_dictionary_is_refused(self, content, text, learn, tmp_path):
        if isinstance(content, bytes):
            (tmp_path / "start.npy").write_bytes(content)
        elif content is not None:
            np.save(tmp_path / "start.npy", content)
        code, out, err = learn(*SMALL, "--start", "start.npy", "--out", "here")
        assert code == 2 and out == "" and text in err and err.count("\n") == 1, err
        assert not (tmp_path / "here").exists()

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["--out", "x"], "--dataset is missing"),
            (["--dataset", "digits"], "Missing option '--out'"),
            (
                ["--experiment", "2a-T25-backprp-lasso", "--out", "x"],
                "did you mean '2a-T25-backprop-lasso'?",
            ),
            (
                ["--dataset", "ridge", "--loss", "linear", "--out", "x"],
                "has no dictionary to learn",
            ),
            (["--dataset", "ridge", "--out", "x"], "loss='lasso' is unknown"),
            (["--dataset", "digits", "--resume", "--out", "x"], "x holds no checkpoint to resume"),
            (["--dataset", "digits", "--optimizer", "adm", "--out", "x"], "did you mean 'adam'?"),
            (
                ["--dataset", "digits", "--epochs", "many", "--out", "x"],
                "'many' is not a valid integer",
            ),
            (["--dataset", "digits", "--seed", "-1", "--out", "x"], "seed=-1 is too small"),
        ],
    )
    def test_wrong_usage_is_one_line_and_writes_nothing(self, arguments, text, learn, tmp_path):
        code, out, err = learn(*arguments)
        assert code == 2 and out == "" and text in err, err
        assert err.startswith("pudle: error: ") and err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_help_has_examples_and_defaults(self, learn):
        code, out, _ = learn("--help")
        words = " ".join(out.split())
        assert (
            code == 0
            and "Examples:" in out
            and "Seed of the dataset and of the sample order [default: 0]." in words
        )
        assert (
            "Samples per step [default: all of them]." in words
            and "Outer loss [default: lasso]." in words
        )


def test_every_named_experiment_makes_a_learner_and_a_dataset():
    experiments = {
        name: each for name, each in pudle.list_experiments().items() if each.kind == "learning"
    }
    assert {"2a-T100-backprop-reconstruction", "2b-s10-hard", "2b-small-s10-decaying"} <= set(
        experiments
    )
    for name, experiment in experiments.items():
        assert experiment.learner().describe()["depth"] == experiment.depth
        dataset = pudle.make_dataset(experiment.dataset)
        if name.startswith(("2a", "2b", "optimizers")):
            assert dataset.perturbation in (0.1, 0.005)
