"""Datasets: draws are reproducible and follow the model that is documented; bad options are refused
in one clear line.
"""

import numpy as np
import pytest
from support.oracles.comparisons import refusal
from support.problems.learning import save_images, texture

import pudle
from pudle.streams import generator

FROM_DATA = ("digits", "image_patches")

#: Unit norms come from one division: a few units in the last place.
ROUNDING = 1e-14
#: Sample statistics of the large draws below scatter by well under 2%; the seed is fixed.
STATISTICAL = 0.05


def draw_of(name, **options):
    return pudle.list_datasets()[name](**options).draw()


def patches_of(folder, **options):
    fields = {"n_samples": 40, "n_components": 20, "size": 6} | options
    return draw_of("image_patches", folder=str(folder), **fields)


def test_streams_of_one_seed_differ_between_names():
    streams = [pudle.make_dataset(name).generator() for name in ("digits", "convolutional")]
    streams += [pudle.make_dataset("digits").generator("other"), generator(0, "estimator spsa")]
    first = [stream.standard_normal() for stream in (*streams, np.random.default_rng(0))]
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(
    "spec, text",
    [
        ("image_patches(size=1)", "size=1 is too small: give a whole number >= 2"),
        ("sparse_gaussian(n_nonzero_coefs=9, n_components=8)", "n_nonzero_coefs=9 is above n_com"),
        ("sparse_gaussian(amplitudes='cauchy')", "amplitudes='cauchy' is unknown: choose from"),
        ("noisy_crops(n_components=200)", "n_components=200 is above the 162 cosines"),
        ("ridge(kappa=1)", "kappa=1 leaves all eigenvalues equal"),
        ("equilibrium(contraction=1)", "contraction=1: give a number below 1"),
    ],
)
def test_bad_options_are_refused(spec, text):
    assert f": {text}" in refusal(lambda: pudle.make_dataset(spec))


def noise_of(draw):
    return draw.observations - draw.generating_codes @ draw.generating_dictionary.T


class TestSparseGaussian:
    def test_codes(self):
        draw = draw_of("sparse_gaussian", n_samples=2000, n_components=80, n_nonzero_coefs=4)
        codes = draw.generating_codes
        assert ((codes != 0).sum(1) == 4).all()
        magnitudes = np.abs(codes[codes != 0])
        assert magnitudes.min() >= 1 and magnitudes.max() <= 2
        assert magnitudes.mean() == pytest.approx(1.5, rel=STATISTICAL)
        assert (codes > 0).sum() / (codes != 0).sum() == pytest.approx(0.5, rel=STATISTICAL)
        # Every atom is used: 100 times each on average.
        assert (codes != 0).sum(0).min() > 50
        gaussian = draw_of(
            "sparse_gaussian", n_samples=2000, amplitudes="gaussian"
        ).generating_codes
        assert gaussian[gaussian != 0].std() == pytest.approx(1, rel=STATISTICAL)
        assert abs(gaussian[gaussian != 0].mean()) < STATISTICAL

    def test_observations_and_perturbation(self):
        exact = draw_of("sparse_gaussian", n_samples=200)
        assert np.abs(noise_of(exact)).max() < ROUNDING
        noisy = draw_of("sparse_gaussian", n_samples=2000, noise=0.3, perturbation=0)
        assert noise_of(noisy).std() == pytest.approx(0.3, rel=STATISTICAL)
        assert np.allclose(noisy.dictionary, noisy.generating_dictionary, atol=ROUNDING)
        # Renormalizing removes the part along the atom, 1/m of the variance: far below the
        # tolerance.
        change = exact.dictionary - exact.generating_dictionary
        assert change.std() == pytest.approx(0.02, rel=STATISTICAL)


class TestBernoulliGaussian:
    def test_codes_and_noise(self):
        draw = draw_of("bernoulli_gaussian", n_samples=2000)
        codes = draw.generating_codes
        assert draw.observations.shape == (2000, 30) and draw.dictionary.shape == (30, 50)
        present = codes != 0
        assert present.mean() == pytest.approx(0.3, rel=STATISTICAL)
        assert codes[present].std() == pytest.approx(1, rel=STATISTICAL)
        assert abs(codes[present].mean()) < STATISTICAL
        # A binomial count per code, not a fixed one.
        assert present.sum(1).var() == pytest.approx(50 * 0.3 * 0.7, rel=0.1)
        assert noise_of(draw).std() == pytest.approx(0.1, rel=STATISTICAL)

    @pytest.mark.parametrize("perturbation", [0.1, 1.0])
    def test_perturbation_is_relative_to_the_entries(self, perturbation):
        sizes = {"n_samples": 1, "n_features": 300, "n_components": 200}
        draw = draw_of("bernoulli_gaussian", perturbation=perturbation, **sizes)
        # D = (D* + s E) / |.|: an atom's cosine with the original is 1 / sqrt(1 + m s^2), with s =
        # ratio / sqrt(m).
        cosines = (draw.dictionary * draw.generating_dictionary).sum(0)
        assert cosines.mean() == pytest.approx(1 / np.sqrt(1 + perturbation**2), rel=0.01)


class TestFromData:
    """Properties that digits and image patches have in common."""

    @pytest.mark.parametrize("name", FROM_DATA)
    def test_atoms_are_distinct_and_no_observations(self, name):
        draw = draw_of(name, seed=2)
        coherence = np.abs(draw.dictionary.T @ draw.dictionary - np.eye(128))
        assert draw.dictionary.shape == (64, 128) and coherence.max() < 0.95
        assert np.abs(draw.observations @ draw.dictionary).max() < 1 - 1e-9
        for rows in (draw.observations, draw.dictionary.T):
            assert np.abs(rows.mean(1)).max() < ROUNDING
            assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < ROUNDING

    def test_all_other_digits_can_be_coded(self):
        draw = draw_of("digits", n_samples=1697, n_components=100)
        both = np.concatenate([draw.observations, draw.dictionary.T])
        assert len(np.unique(both.round(12), axis=0)) == 1797


class TestImages:
    def test_patches_come_from_the_users_images(self, tmp_path):
        values = texture(60, 80)
        save_images(tmp_path, {"a.png": values})
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
        across = np.tile(wave, (40, 1))
        save_images(tmp_path, {"across.png": across, "down.png": across.T})
        rows = patches_of(tmp_path, n_samples=400, n_components=2).observations.reshape(-1, 6, 6)
        across = np.ptp(rows, axis=1).max(1) < 1e-12
        assert across.mean() == pytest.approx(0.5, abs=0.1)

    def test_every_kind_of_image_becomes_gray(self, tmp_path):
        values = texture(60, 80)
        opaque = np.full_like(values, 255)
        kinds = {
            "gray.PNG": values,
            "gray.tif": values,
            "transparent.png": np.dstack([values] * 3 + [opaque]),
            "deep.png": values.astype(np.uint16) * 257,
        }
        drawn = []
        for number, (name, kind) in enumerate(kinds.items()):
            save_images(tmp_path / str(number), {name: kind})
            drawn.append(patches_of(tmp_path / str(number)).observations)
        for other in drawn:
            assert np.allclose(drawn[0], other, atol=1e-13)

    def test_other_files_are_ignored(self, tmp_path):
        save_images(tmp_path, {"a.png": texture(60, 80)})
        alone = patches_of(tmp_path).observations
        (tmp_path / "notes.txt").write_text("not an image")
        (tmp_path / ".hidden.png").write_bytes(b"not an image either")
        save_images(tmp_path / "subfolder", {"b.png": texture(60, 80, seed=1)})
        assert np.array_equal(alone, patches_of(tmp_path).observations)

    def test_nearly_constant_patches_are_dropped(self, tmp_path):
        # A flat image beside a small textured one: every patch drawn must come from the texture.
        flat = np.full((200, 200), 90, dtype=np.uint8)
        save_images(tmp_path, {"flat.png": flat, "texture.png": texture(30, 30)})
        draw = patches_of(tmp_path)
        assert np.isfinite(draw.observations).all()
        assert (np.ptp(draw.observations, axis=1) > 0).all()

    def test_fingerprint_is_the_state_of_the_folder(self, tmp_path):
        save_images(tmp_path, {"a.png": texture(60, 80)})
        dataset = pudle.list_datasets()["image_patches"](folder=str(tmp_path))
        before = dataset.fingerprint()
        assert "a.png" in before and dataset.fingerprint() == before
        save_images(tmp_path, {"b.png": texture(60, 80, seed=1)})
        assert dataset.fingerprint() != before
        assert pudle.list_datasets()["image_patches"]().fingerprint() == ""

    @pytest.mark.parametrize(
        "images, options, text",
        [
            ({}, {}, "is an empty image folder: put images in it (.png .jpg"),
            ({"small.png": texture(5, 30)}, {}, "does not fit into small.png (30 x 5 pixels)"),
            ({"a.png": np.full((40, 40), 200, np.uint8)}, {}, "are all nearly constant"),
            ({"a.png": texture(12, 12)}, {"n_components": 50}, "n_components=50 is above the "),
            ({"a.png": texture(12, 12)}, {"n_components": 10}, "n_samples=40 is above the 39 "),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(self, images, options, text, tmp_path):
        save_images(tmp_path, images)
        assert text in refusal(lambda: patches_of(tmp_path, **options))

    @pytest.mark.parametrize("suffix, share", [("png", 0.5), ("jpg", 0.5), ("tif", 0)])
    def test_an_image_that_is_cut_is_refused(self, tmp_path, suffix, share):
        file = tmp_path / f"bad.{suffix}"
        save_images(tmp_path, {file.name: texture(60, 80)})
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        text = refusal(lambda: patches_of(tmp_path))
        assert f" holds an unreadable image, bad.{suffix} (" in text
