"""Tables of the user's own: read whole from every kind of file, refused in one line, and split by
the seed.
"""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from support.oracles.comparisons import refusal

import pudle
from pudle.data import tables
from pudle.errors import MissingDependency

RANDOM = np.random.default_rng(0)
#: Rows made of few atoms, so that a dictionary can be learned.
VALUES = (
    RANDOM.standard_normal((60, 9)) * (RANDOM.random((60, 9)) < 0.3)
) @ RANDOM.standard_normal((9, 6)) + 1e-3
FRAME = pd.DataFrame(VALUES, columns=[f"x{number}" for number in range(6)])


def write(path, values=VALUES):
    frame = pd.DataFrame(values, columns=FRAME.columns)
    match path.suffix:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez(path, observations=values, other=values[:2])
        case ".parquet":
            frame.to_parquet(path)
        case ".tsv":
            frame.to_csv(path, sep="\t", index=False)
        case ".csv":
            frame.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("suffix", tables.READERS)
def test_every_kind_of_file_holds_the_same_numbers(suffix, tmp_path):
    read = tables.read_table(write(tmp_path / f"data{suffix}"))
    assert read.dtype == np.float64
    np.testing.assert_allclose(read, VALUES, rtol=1e-15)
    # Without a header the first row is a sample.
    if suffix == ".csv":
        FRAME.to_csv(tmp_path / "data.csv", index=False, header=False)
        assert len(tables.read_table(str(tmp_path / "data.csv"))) == 60


WRONG = {
    "text.csv": ("a,b\n1,two\n", "in column 'b', not numbers"),
    "gap.csv": ("a,b\n1,2\n3,\n", "has 1 missing or infinite values, the first in row 2, column 2"),
    "empty.csv": ("", "is empty: give a file with a line per sample"),
    "data.xlsx": ("", "is no file with one of the endings .npy, .npz, .csv, .tsv"),
    "damaged.npz": ("nothing", "cannot be read ("),
    "complex.npy": (np.zeros((2, 2), complex), "holds complex128, not real numbers"),
    "several.npz": ({"a": VALUES, "b": VALUES}, "holds a, b: keep one array, or call one"),
    "nowhere.csv": (None, "is not an existing file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_table_of_numbers_is_refused_in_one_line(name, tmp_path):
    content, text = WRONG[name]
    path = tmp_path / name
    match content:
        case str():
            path.write_text(content)
        case dict():
            np.savez(path, **content)
        case np.ndarray():
            np.save(path, content)
    said = refusal(lambda: pudle.make_dataset(f"array(path={str(path)!r})").problem())
    assert text in said and str(path) in said


def test_parquet_without_its_package_is_refused_with_the_remedy(tmp_path, monkeypatch):
    path = write(tmp_path / "data.parquet")
    monkeypatch.setattr(pd, "read_parquet", lambda _: __import__("nothing_of_this_name"))
    with pytest.raises(MissingDependency, match=r"needs pyarrow: pip install 'pudle\[parquet\]'"):
        tables.read_table(path)


def test_a_dictionary_is_learned_from_other_rows_than_those_that_are_coded(tmp_path):
    problem = pudle.make_dataset(
        f"array(path={write(tmp_path / 'data.npy')!r}, n_components=8)"
    ).problem()
    coded = {tuple(row) for row in problem.observations.numpy()}
    assert len(coded) == 30 and coded < {tuple(row) for row in VALUES}
    assert problem.dictionary.shape == (6, 8)
    np.testing.assert_allclose(torch.linalg.norm(problem.dictionary, dim=0), 1, rtol=1e-12)
    coherence = problem.dictionary.T @ problem.dictionary - torch.eye(8, dtype=torch.float64)
    assert coherence.abs().max() < 0.95
    # Learned atoms explain the rows better than random ones do.
    random = np.random.default_rng(1).standard_normal((6, 8))
    other = pudle.sparse_coding(
        VALUES, dictionary=random / np.linalg.norm(random, axis=0), penalty=problem.penalty
    )
    assert minimum(problem) < 0.8 * minimum(other)


def minimum(problem):
    return float(problem.outer_loss(pudle.Fista().run(problem, 300).codes))


def test_standardized_columns_have_no_mean_and_one_scale():
    values = np.hstack([VALUES * 10.0 ** np.arange(6) + 100, np.full((60, 1), 3.0)])
    whole = pudle.sparse_coding(values, dictionary=np.eye(7), standardize=True).observations.numpy()
    np.testing.assert_allclose(whole.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(whole.std(0), [1] * 6 + [0], atol=1e-12)
    # Else the means and the largest columns decide what is learned.
    few, many = (
        pudle.sparse_coding(values, standardize=choice).dictionary.shape[1]
        for choice in (False, True)
    )
    assert few < 4 < many


def test_the_default_penalty_is_the_stated_fraction(tmp_path):
    """Above the median of the largest correlations half of the codes are zero; the default is a
    fifth of it.
    """
    problem = pudle.sparse_coding(FRAME, seed=3)
    zero = pudle.SparseCoding(
        observations=problem.observations,
        dictionary=problem.dictionary,
        penalty=problem.penalty / tables.FRACTION,
    )
    codes = pudle.Fista().run(zero, 500).codes
    assert int((codes == 0).all(1).sum()) == len(codes) // 2 and tables.FRACTION == 0.2


def test_the_seed_chooses_the_rows_and_the_file_gives_the_fingerprint(tmp_path):
    path, state = write(tmp_path / "data.csv"), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (
        pudle.make_dataset(f"array(path={path!r}, seed={seed})").problem() for seed in (0, 0, 1)
    )
    assert torch.equal(first.observations, again.observations) and torch.equal(
        first.dictionary, again.dictionary
    )
    assert not torch.equal(first.observations, other.observations)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    dataset = pudle.make_dataset(f"array(path={path!r})")
    before = dataset.fingerprint()
    os.utime(path, (1, 1))
    assert dataset.fingerprint() == before
    write(tmp_path / "data.csv", VALUES + 1e-9)
    assert dataset.fingerprint() != before
    assert not torch.equal(dataset.problem().observations, first.observations)


def test_a_change_to_a_problem_does_not_reach_the_next_one(tmp_path):
    dataset = pudle.make_dataset(f"array(path={write(tmp_path / 'data.npy')!r})")
    dataset.problem().observations.zero_()
    assert dataset.problem().observations.abs().max() > 0


def test_a_frame_an_array_and_a_file_give_one_problem(tmp_path):
    from_file = pudle.make_dataset(f"array(path={write(tmp_path / 'data.npy')!r}, seed=2)").problem(
        "reconstruction"
    )
    for data in (FRAME, VALUES):
        problem = pudle.sparse_coding(data, seed=2, loss="reconstruction")
        assert (
            torch.equal(problem.observations, from_file.observations)
            and problem.loss == "reconstruction"
        )
        assert problem.penalty == from_file.penalty
    problem = pudle.SparseCoding(observations=FRAME, dictionary=np.eye(6), penalty=0.1)
    np.testing.assert_array_equal(problem.observations, VALUES)
    assert pudle.reference(problem).status == "certified"


@pytest.mark.parametrize(
    "data, options, text",
    [
        (FRAME, {"n_samples": 31}, "n_samples=31 is above the 30 rows to code"),
        (FRAME, {"n_components": 30}, "n_components=30 is above the"),
        (FRAME, {"dictionary": np.eye(6)[:4]}, "it must be (6, any) to fit; transpose it"),
        (FRAME.iloc[:3], {}, "3 rows: too few"),
        (FRAME * 0, {}, "half of the rows are zero"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(data, options, text):
    assert text in refusal(lambda: pudle.sparse_coding(data, **options))
