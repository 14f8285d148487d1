"""Datasets: draws are reproducible and follow the model that is documented; bad options are refused
in one clear line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import SHARED
from PIL import Image

import pudle
from pudle.data import Draw
from pudle.errors import InvalidArgument

#: A spec for a small draw of every built-in dataset; a line here adds a dataset to the shared
#: tests.
SMALL = {
    "bernoulli_gaussian": "bernoulli_gaussian(n_samples=40)",
    "digits": "digits(n_samples=40, n_components=30)",
    "image_patches": "image_patches(n_samples=40, n_components=30)",
    "sparse_gaussian": "sparse_gaussian(n_samples=40)",
}
NAMES = sorted(SMALL)
#: Those that draw nothing without a user's file; they have tests of their own.
OWN_FILES = {"array", "memory_mapped"}
FROM_DATA = ("digits", "image_patches")

#: Unit norms come from one division: a few units in the last place.
ROUNDING = 1e-14
#: Sample statistics of the large draws below scatter by well under 2%; the seed is fixed.
STATISTICAL = 0.05

USER_IMAGES = Path(os.environ.get("PUDLE_TEST_IMAGES", SHARED / "data" / "bsd68"))


def make(name: str, seed: int = 0) -> pudle.Dataset:
    return pudle.make_dataset(SMALL[name].replace(")", f", seed={seed})"))


def arrays(draw: Draw) -> list[np.ndarray]:
    everything = (
        draw.observations,
        draw.dictionary,
        draw.generating_dictionary,
        draw.generating_codes,
    )
    return [array for array in everything if array is not None]


def textured(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Make an image of smooth random texture with full contrast, as 8-bit values."""
    noise = np.random.default_rng(seed).standard_normal((height + 2, width + 2))
    smooth = sum(np.roll(noise, (i, j), (0, 1)) for i in range(3) for j in range(3))[
        :height, :width
    ]
    return np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)


def save(folder: Path, name: str, values: np.ndarray) -> Path:
    Image.fromarray(values).save(folder / name)
    return folder / name


def patches_of(folder: Path, **options: object) -> Draw:
    fields = {"n_samples": 40, "n_components": 20, "size": 6} | options
    return pudle.list_datasets()["image_patches"](folder=str(folder), **fields).draw()


def refusal(call) -> str:
    """Return the text of the refusal, which has to be one line."""
    with pytest.raises(InvalidArgument) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


class TestEveryDataset:
    def test_small_draws_cover_every_built_in_sparse_coding_dataset(self):
        built_in = {
            name
            for name, cls in pudle.list_datasets().items()
            if cls.__module__.startswith("pudle.datasets.")
            and issubclass(cls, pudle.SparseCodingDataset)
        }
        assert built_in == set(SMALL) | OWN_FILES

    @pytest.mark.parametrize("name", NAMES)
    def test_shapes_and_types(self, name):
        dataset = make(name)
        assert dataset.name == name
        assert dataset.references
        problem = dataset.problem("reconstruction")
        n, m = problem.observations.shape
        assert n == 40
        assert problem.dictionary.shape[0] == m
        assert problem.code_shape == (40, dataset.n_components)
        assert problem.loss == "reconstruction"
        assert problem.penalty == dataset.penalty
        assert problem.dictionary.dtype == torch.float64
        assert all(
            np.isfinite(array).all() and array.dtype == np.float64
            for array in arrays(dataset.draw())
        )

    @pytest.mark.parametrize("name", NAMES)
    def test_float32_is_the_rounded_draw(self, name):
        problem = make(name).problem(dtype=torch.float32)
        assert problem.observations.dtype == problem.dictionary.dtype == torch.float32
        assert torch.equal(
            problem.dictionary, torch.as_tensor(make(name).draw().dictionary).float()
        )

    @pytest.mark.parametrize("name", NAMES)
    def test_same_seed_same_bits(self, name):
        for first, second in zip(
            arrays(make(name, 3).draw()), arrays(make(name, 3).draw()), strict=True
        ):
            assert np.array_equal(first, second)

    @pytest.mark.parametrize("name", NAMES)
    def test_seeds_differ(self, name):
        for first, second in zip(
            arrays(make(name, 0).draw()), arrays(make(name, 1).draw()), strict=True
        ):
            assert not np.isin(first, second).all()

    @pytest.mark.parametrize("name", NAMES)
    def test_a_draw_leaves_global_random_state_alone(self, name):
        state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        make(name).draw()
        assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
        assert torch.equal(torch_state, torch.get_rng_state())

    def test_streams_of_one_seed_differ_between_names(self):
        from pudle.streams import generator

        streams = [make(name).generator() for name in NAMES]
        streams += [
            make(NAMES[0]).generator("other"),
            generator(0, "estimator spsa"),
            np.random.default_rng(0),
        ]
        first = [stream.standard_normal() for stream in streams]
        assert len(set(first)) == len(first)

    @pytest.mark.parametrize("name", NAMES)
    def test_atoms_have_unit_norm(self, name):
        for dictionary in arrays(make(name).draw())[1:3]:
            assert np.abs(np.linalg.norm(dictionary, axis=0) - 1).max() < ROUNDING

    @pytest.mark.parametrize("name", NAMES)
    def test_datasets_are_immutable_values(self, name):
        dataset = make(name)
        with pytest.raises(AttributeError):
            dataset.n_samples = 3
        assert dataset == make(name)
        assert hash(dataset) == hash(make(name))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("n_samples", 0),
            ("n_samples", 2.0),
            ("n_components", 0),
            ("n_components", True),
            ("penalty", 0),
            ("penalty", "a"),
            ("seed", -1),
        ],
    )
    def test_bad_options_are_refused_by_name(self, name, option, value):
        assert refusal(lambda: pudle.list_datasets()[name](**{option: value})).startswith(
            f"{option}={value!r}"
        )

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("loss", ["lasso", "reconstruction"])
    def test_reference_is_certified(self, name, loss):
        reference = pudle.reference(make(name).problem(loss))
        assert reference.status == "certified", reference.reason
        assert reference.certificate.zero_codes <= 0.05

    def test_listing_imports_neither_scikit_learn_nor_images(self):
        code = "import sys, pudle; pudle.list_datasets(); print('sklearn' in sys.modules)"
        listed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert listed.stdout.strip() == "False"


class TestSparseGaussian:
    draw = staticmethod(
        lambda **options: pudle.list_datasets()["sparse_gaussian"](**options).draw()
    )

    def test_codes(self):
        codes = self.draw(n_samples=2000, n_components=80, n_nonzero_coefs=4).generating_codes
        assert ((codes != 0).sum(1) == 4).all()
        magnitudes = np.abs(codes[codes != 0])
        assert magnitudes.min() >= 1
        assert magnitudes.max() <= 2
        assert magnitudes.mean() == pytest.approx(1.5, rel=STATISTICAL)
        assert (codes > 0).sum() / (codes != 0).sum() == pytest.approx(0.5, rel=STATISTICAL)
        # Every atom is used: 100 times each on average.
        assert (codes != 0).sum(0).min() > 50

    def test_gaussian_amplitudes(self):
        codes = self.draw(n_samples=2000, amplitudes="gaussian").generating_codes
        assert codes[codes != 0].std() == pytest.approx(1, rel=STATISTICAL)
        assert abs(codes[codes != 0].mean()) < STATISTICAL

    def test_observations_and_perturbation(self):
        exact = self.draw(n_samples=200)
        assert np.allclose(
            exact.observations,
            exact.generating_codes @ exact.generating_dictionary.T,
            atol=ROUNDING,
        )
        noisy = self.draw(n_samples=2000, noise=0.3, perturbation=0)
        noise = noisy.observations - noisy.generating_codes @ noisy.generating_dictionary.T
        assert noise.std() == pytest.approx(0.3, rel=STATISTICAL)
        assert np.allclose(noisy.dictionary, noisy.generating_dictionary, atol=ROUNDING)
        # Renormalizing removes the part along the atom, 1/m of the variance: far below the
        # tolerance.
        assert (exact.dictionary - exact.generating_dictionary).std() == pytest.approx(
            0.02, rel=STATISTICAL
        )

    def test_refusals(self):
        assert refusal(lambda: self.draw(n_nonzero_coefs=9, n_components=8)).startswith(
            "n_nonzero_coefs=9 is above n_components=8"
        )
        assert refusal(lambda: self.draw(amplitudes="cauchy")).startswith(
            "amplitudes='cauchy' is unknown: choose from uniform"
        )
        assert refusal(lambda: self.draw(noise=-1)).startswith("noise=-1 is out of range")


class TestBernoulliGaussian:
    draw = staticmethod(
        lambda **options: pudle.list_datasets()["bernoulli_gaussian"](**options).draw()
    )

    def test_codes(self):
        codes = self.draw(n_samples=2000).generating_codes
        present = codes != 0
        assert present.mean() == pytest.approx(0.3, rel=STATISTICAL)
        assert codes[present].std() == pytest.approx(1, rel=STATISTICAL)
        assert abs(codes[present].mean()) < STATISTICAL
        # A binomial count per code, not a fixed one.
        assert present.sum(1).var() == pytest.approx(50 * 0.3 * 0.7, rel=0.1)

    def test_defaults_are_the_papers(self):
        draw = self.draw()
        assert draw.observations.shape == (1000, 30)
        assert draw.dictionary.shape == (30, 50)
        noise = draw.observations - draw.generating_codes @ draw.generating_dictionary.T
        assert noise.std() == pytest.approx(0.1, rel=STATISTICAL)

    @pytest.mark.parametrize("perturbation", [0.1, 0.5, 1.0])
    def test_perturbation_is_relative_to_the_entries(self, perturbation):
        draw = self.draw(n_samples=1, n_features=300, n_components=200, perturbation=perturbation)
        # D = (D* + s E) / |.|: an atom's cosine with the original is 1 / sqrt(1 + m s^2), with s =
        # ratio / sqrt(m).
        cosines = (draw.dictionary * draw.generating_dictionary).sum(0)
        assert cosines.mean() == pytest.approx(1 / np.sqrt(1 + perturbation**2), rel=0.01)

    def test_full_density_and_no_noise(self):
        draw = self.draw(n_samples=20, density=1, noise=0)
        assert (draw.generating_codes != 0).all()
        assert np.allclose(
            draw.observations, draw.generating_codes @ draw.generating_dictionary.T, atol=1e-13
        )

    def test_refusals(self):
        assert refusal(lambda: self.draw(density=1.5)).startswith("density=1.5 is above 1")
        assert refusal(lambda: self.draw(density=0)).startswith("density=0 is out of range")
        assert refusal(lambda: self.draw(perturbation=float("nan"))).startswith(
            "perturbation=nan is not a finite number"
        )


class TestFromData:
    """Properties that digits and image patches have in common."""

    @pytest.mark.parametrize("name", FROM_DATA)
    @pytest.mark.parametrize("seed", range(3))
    def test_atoms_are_distinct(self, name, seed):
        dictionary = pudle.list_datasets()[name](seed=seed).draw().dictionary
        coherence = np.abs(dictionary.T @ dictionary - np.eye(dictionary.shape[1]))
        assert dictionary.shape == (64, 128)
        assert coherence.max() < 0.95

    @pytest.mark.parametrize("name", FROM_DATA)
    def test_rows_are_centered_and_of_unit_norm(self, name):
        draw = make(name).draw()
        for rows in (draw.observations, draw.dictionary.T):
            assert np.abs(rows.mean(1)).max() < ROUNDING
            assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < ROUNDING

    @pytest.mark.parametrize("name", FROM_DATA)
    def test_atoms_are_not_observations(self, name):
        draw = pudle.list_datasets()[name]().draw()
        assert np.abs(draw.observations @ draw.dictionary).max() < 1 - 1e-9

    @pytest.mark.parametrize("name", FROM_DATA)
    def test_there_is_no_generating_dictionary(self, name):
        draw = make(name).draw()
        assert draw.generating_dictionary is None
        assert draw.generating_codes is None
        with pytest.raises(InvalidArgument, match="generating_dictionary"):
            pudle.reference(make(name).problem(), "gstar")

    @pytest.mark.parametrize("name", FROM_DATA)
    def test_a_warm_draw_is_fast(self, name):
        dataset = pudle.list_datasets()[name]()
        dataset.draw()
        start = time.perf_counter()
        dataset.problem()
        assert time.perf_counter() - start < 1


class TestDigits:
    def test_all_other_digits_can_be_coded(self):
        draw = pudle.make_dataset("digits(n_samples=1697, n_components=100)").draw()
        assert draw.observations.shape == (1697, 64)
        both = np.concatenate([draw.observations, draw.dictionary.T])
        assert len(np.unique(both.round(12), axis=0)) == 1797

    def test_more_than_there_are_is_refused(self):
        text = refusal(lambda: pudle.list_datasets()["digits"](n_samples=1700, n_components=100))
        assert (
            text == "n_samples=1700 and n_components=100 need more than the 1797 digits there are: "
            "give n_samples + n_components <= 1797"
        )

    def test_more_distinct_atoms_than_there_are_is_refused(self):
        text = refusal(lambda: pudle.make_dataset("digits(n_samples=1, n_components=1796)").draw())
        assert text.startswith("n_components=1796 is above the ")
        assert text.endswith("give a smaller n_components or more data")


class TestImagePatches:
    def test_patches_come_from_the_users_images(self, tmp_path):
        values = textured()
        save(tmp_path, "a.png", values)
        draw = patches_of(tmp_path)
        every = np.lib.stride_tricks.sliding_window_view(values / 255, (6, 6)).reshape(-1, 36)
        every = every - every.mean(1, keepdims=True)
        every /= np.linalg.norm(every, axis=1, keepdims=True)
        places = [np.argmax(every @ row) for row in (*draw.observations, *draw.dictionary.T)]
        assert np.allclose(every[places], [*draw.observations, *draw.dictionary.T], atol=1e-13)
        assert len(set(places)) == 60

    def test_all_images_are_used(self, tmp_path):
        # Stripes along one axis each: a patch tells which image it is from.
        wave = (127 + 120 * np.sin(np.arange(40) * 0.9)).astype(np.uint8)
        save(tmp_path, "across.png", np.tile(wave, (40, 1)))
        save(tmp_path, "down.png", np.tile(wave[:, None], (1, 40)))
        rows = patches_of(tmp_path, n_samples=400, n_components=2).observations.reshape(-1, 6, 6)
        across = np.ptp(rows, axis=1).max(1) < 1e-12
        assert across.mean() == pytest.approx(0.5, abs=0.1)

    def test_order_of_files_is_by_name(self, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        for folder, order in ((first, "ab"), (second, "ba")):
            folder.mkdir()
            for name in order:
                save(folder, f"{name}.png", textured(seed=ord(name)))
        assert np.array_equal(patches_of(first).observations, patches_of(second).observations)

    @pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "tiff", "pgm"])
    def test_lossless_kinds_agree(self, tmp_path, suffix):
        expected, found = tmp_path / "expected", tmp_path / "found"
        expected.mkdir(), found.mkdir()
        save(expected, "a.png", textured())
        save(found, f"a.{suffix}", textured())
        assert np.array_equal(patches_of(expected).observations, patches_of(found).observations)

    def test_color_and_sixteen_bits_become_gray(self, tmp_path):
        folders = [tmp_path / name for name in ("gray", "color", "transparent", "deep")]
        values = textured()
        opaque = np.full_like(values, 255)
        kinds = (
            values,
            np.dstack([values] * 3),
            np.dstack([values] * 3 + [opaque]),
            values.astype(np.uint16) * 257,
        )
        for folder, kind in zip(folders, kinds, strict=True):
            folder.mkdir()
            save(folder, "a.png", kind)
        gray, *others = (patches_of(folder).observations for folder in folders)
        for other in others:
            assert np.allclose(gray, other, atol=1e-13)

    def test_jpeg_is_read(self, tmp_path):
        save(tmp_path, "a.jpg", textured())
        assert patches_of(tmp_path).observations.shape == (40, 36)

    def test_other_files_are_ignored(self, tmp_path):
        save(tmp_path, "a.png", textured())
        alone = patches_of(tmp_path).observations
        (tmp_path / "notes.txt").write_text("not an image")
        (tmp_path / ".hidden.png").write_bytes(b"not an image either")
        (tmp_path / "subfolder").mkdir()
        save(tmp_path / "subfolder", "b.png", textured(seed=1))
        assert np.array_equal(alone, patches_of(tmp_path).observations)

    def test_nearly_constant_patches_are_dropped(self, tmp_path):
        # A flat image beside a small textured one: every patch drawn must come from the texture.
        save(tmp_path, "flat.png", np.full((200, 200), 90, dtype=np.uint8))
        save(tmp_path, "texture.png", textured(30, 30))
        draw = patches_of(tmp_path)
        assert np.isfinite(draw.observations).all()
        assert (np.ptp(draw.observations, axis=1) > 0).all()

    def test_fingerprint_is_the_state_of_the_folder(self, tmp_path):
        save(tmp_path, "a.png", textured())
        dataset = pudle.list_datasets()["image_patches"](folder=str(tmp_path))
        before = dataset.fingerprint()
        assert "a.png" in before and dataset.fingerprint() == before
        save(tmp_path, "b.png", textured(seed=1))
        assert dataset.fingerprint() != before
        assert pudle.list_datasets()["image_patches"]().fingerprint() == ""

    def test_through_the_registry(self, tmp_path):
        save(tmp_path, "a.png", textured())
        dataset = pudle.make_dataset(
            f"image_patches(folder={str(tmp_path)!r}, n_samples=20, n_components=10, size=5)"
        )
        assert dataset.problem().observations.shape == (20, 25)

    def test_user_images(self):
        if not USER_IMAGES.is_dir():
            pytest.skip(f"no folder {USER_IMAGES}: set PUDLE_TEST_IMAGES to a folder of images")
        problem = pudle.list_datasets()["image_patches"](
            folder=str(USER_IMAGES), n_samples=300
        ).problem()
        reference = pudle.reference(problem)
        assert reference.status == "certified", reference.reason
        assert reference.certificate.zero_codes <= 0.05


class TestImagePatchesRefusals:
    def test_folder_does_not_exist(self, tmp_path):
        text = refusal(lambda: patches_of(tmp_path / "absent"))
        assert (
            text
            == f"folder={str(tmp_path / 'absent')!r} is not an existing folder: give the path of a"
            " folder of images"
        )

    def test_folder_is_a_file(self, tmp_path):
        file = save(tmp_path, "a.png", textured())
        assert "is not an existing folder" in refusal(lambda: patches_of(file))

    def test_folder_is_no_path(self):
        assert refusal(lambda: pudle.list_datasets()["image_patches"](folder=3)).startswith(
            "folder=3 is not a path"
        )

    def test_empty_folder(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no image")
        text = refusal(lambda: patches_of(tmp_path))
        assert text.startswith(
            f"folder={str(tmp_path)!r} is an empty image folder: put images in it (.png .jpg"
        )

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
    @pytest.mark.parametrize("damage", ["not an image", "cut short", "empty"])
    def test_unreadable_image(self, tmp_path, suffix, damage):
        save(tmp_path, "good.png", textured())
        file = save(tmp_path, f"bad.{suffix}", textured())
        whole = file.read_bytes()
        file.write_bytes(
            {"not an image": b"hello", "cut short": whole[: len(whole) // 2], "empty": b""}[damage]
        )
        text = refusal(lambda: patches_of(tmp_path))
        assert text.startswith(
            f"folder={str(tmp_path)!r} holds an unreadable image, bad.{suffix} ("
        )
        assert text.endswith("repair or remove it")

    def test_image_smaller_than_a_patch(self, tmp_path):
        save(tmp_path, "large.png", textured())
        save(tmp_path, "small.png", textured(5, 30))
        text = refusal(lambda: patches_of(tmp_path, size=6))
        assert (
            text
            == "size=6 does not fit into small.png (30 x 5 pixels): give size <= 5 or remove that"
            " image"
        )

    def test_constant_images(self, tmp_path):
        save(tmp_path, "flat.png", np.full((40, 40), 200, dtype=np.uint8))
        text = refusal(lambda: patches_of(tmp_path))
        assert (
            text
            == f"the patches of folder={str(tmp_path)!r} are all nearly constant (norm <= 0.3 about"
            " the mean): give others"
        )

    def test_too_many_atoms(self, tmp_path):
        save(tmp_path, "a.png", textured(12, 12))
        text = refusal(lambda: patches_of(tmp_path, n_samples=1, n_components=50))
        assert text.startswith("n_components=50 is above the ")
        assert "any two with a coherence below 0.95" in text

    def test_too_many_observations(self, tmp_path):
        save(tmp_path, "a.png", textured(12, 12))
        text = refusal(lambda: patches_of(tmp_path, n_samples=40, n_components=10))
        assert (
            text
            == f"n_samples=40 is above the 39 that the patches of folder={str(tmp_path)!r} offer"
            " (besides the atoms, norm above 0.3 about the mean): give a smaller n_samples or"
            " more data"
        )

    @pytest.mark.parametrize("size", [0, 1, 2.5])
    def test_size(self, size):
        assert refusal(lambda: pudle.list_datasets()["image_patches"](size=size)).startswith(
            f"size={size} is"
        )
