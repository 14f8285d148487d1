"""`pudle denoise`: the table, files, resumption, and refusals of one line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from learning_helpers import run_command, save_images, texture
from PIL import Image

from pudle.learning.denoising_baselines import METHODS


@pytest.fixture
def denoise(monkeypatch, capsys):
    """`pudle denoise` as the command line runs it: exit code, output, errors."""
    return lambda *arguments: run_command("denoise", arguments, monkeypatch, capsys)


@pytest.fixture
def options(tmp_path):
    """A short training, tested on one small image."""
    folder = save_images(tmp_path / "test", {"a.png": texture(60, 70)})
    dataset = "noisy_crops(n_samples=8, size=33)"
    options = {
        "experiment": "denoising-small-backprop",
        "dataset": dataset,
        "test-images": folder,
        "out": tmp_path / "out",
    }
    return [text for name, value in options.items() for text in (f"--{name}", value)]


def test_table_and_files(denoise, options, tmp_path, monkeypatch):
    options, out = (
        [*options, "--epochs", 1, "--baseline", "total variation", "--baseline", "BM3D"],
        tmp_path / "out",
    )
    monkeypatch.setitem(sys.modules, "bm3d", None)
    code, printed, err = denoise(*options)
    assert code == 0 and "BM3D is left out: install pudle[baselines]" in err
    summary = json.loads((out / "denoising.json").read_text())
    results = summary["results"]
    assert list(results) == ["backprop, reconstruction, supervised", "total variation"]
    assert summary["options"]["sigma"] == 25 and summary["options"]["training"]["epochs"] == 1
    lines = printed.splitlines()
    assert "1 image of test, sigma 25" in lines[0]
    for name, result in {
        "noisy": {"psnr": results["total variation"]["noisy_psnr"]},
        **results,
    }.items():
        (line,) = (line for line in lines if f" {name} " in line)
        for key in ("psnr", "psnr_shifted"):
            if result.get(key) is not None:
                assert f" {result[key]:.2f} " in line
    assert list(pd.read_csv(out / "history.csv").step) == [0, 8]
    for picture in ("images.png", "filters.png", "curve.png"):
        with Image.open(out / picture) as image:
            assert min(image.size) > 300
    with np.load(out / "pictures.npz") as pictures:
        assert pictures["total variation: denoised"].shape == (60, 70)
    code, _, err = denoise(*options)
    assert code == 2 and "holds results already" in err


def test_torchrun_is_refused(denoise, options, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = denoise(*options)
    assert code == 2 and "denoise learns in one process: start it without torchrun" in err


def test_resume(denoise, options, tmp_path):
    """The flag continues an interrupted training; without one it is refused, and so is a training
    without the flag.
    """
    options, out = [*options, "--epochs", 2, "--no-shifts", "--record-every", 8], tmp_path / "out"
    code, _, err = denoise(*options, "--resume")
    assert code == 2 and "holds no checkpoint to resume" in err and not out.exists()
    assert denoise(*options, "--budget", "1e-6")[0] == 0
    (out / "denoising.json").unlink()
    code, _, err = denoise(*options)
    assert code == 2 and "holds results already" in err
    assert list(pd.read_csv(out / "history.csv").step) == [0, 1]
    assert denoise(*options, "--resume")[0] == 0
    assert list(pd.read_csv(out / "history.csv").step) == [0, 1, 8, 16]


@pytest.mark.parametrize("command", ["denoise", "learn"])
def test_help_does_not_wait_for_torch(command):
    code = (
        f"import sys; from pudle import cli; cli.pudle.main(['{command}', '--help'],"
        " standalone_mode=False); "
    )
    shown = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert (
        shown.returncode == 0 and "Examples:" in shown.stdout and shown.stdout.endswith("False\n")
    )


def test_help_names_every_method_of_other_packages(denoise):
    code, printed, _ = denoise("--help")
    assert code == 0 and all(method in " ".join(printed.split()) for method in METHODS)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--experiment", "denoising-small-bacprop", "--out", "x"],
            "did you mean 'denoising-small-backprop'",
        ),
        ([], "Missing option '--out'"),
        (["--experiment", "denoising-wavelet", "--epochs", 3, "--out", "x"], "it has no --epochs"),
        (["--validation", -1, "--out", "x"], "validation=-1 is too small"),
        (
            ["--baseline", "median", "--out", "x"],
            "baseline='median' is unknown: choose from BM3D, non-local means, wavelet",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(
    denoise, arguments, text, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = denoise(*arguments)
    assert code == 2 and text in err and len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_estimator_whose_package_is_missing_is_an_error(denoise, options, monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxopt", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    code, _, err = denoise(*options, "--estimator", "jaxopt_implicit")
    assert code == 2 and "left out" not in err


def test_other_packages_methods_are_listed(monkeypatch, capsys):
    code, printed, _ = run_command("list", ["experiments"], monkeypatch, capsys)
    assert code == 0 and "denoising-bm3d" in printed
