"""Arrays on disk: the same numbers as in memory, from memory that does not grow with the file."""

import numpy as np
import pytest
import torch
from support.oracles.comparisons import refusal
from support.processes import commands

import pudle


@pytest.fixture
def table(tmp_path):
    """A table and a dictionary as .npy files, and the table."""
    random = np.random.default_rng(0)
    values, dictionary = random.standard_normal((50, 6)), random.standard_normal((6, 9))
    np.save(tmp_path / "dictionary.npy", dictionary / np.linalg.norm(dictionary, axis=0))
    np.save(tmp_path / "rows.npy", values)
    return values


def made(folder, name="rows.npy", **options):
    shown = "".join(f", {key}={value!r}" for key, value in options.items())
    return pudle.make_dataset(
        f"memory_mapped(path={str(folder / name)!r},"
        f" dictionary={str(folder / 'dictionary.npy')!r}{shown})"
    )


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_rows_are_those_that_were_written(tmp_path, table, order):
    np.save(tmp_path / "rows.npy", np.asarray(table, order=order))
    dataset = made(tmp_path, n_samples=20)
    drawn = dataset.draw().observations
    places = {int(np.flatnonzero((table == row).all(axis=1))[0]) for row in drawn}
    assert len(places) == 20
    assert not np.array_equal(drawn, made(tmp_path, n_samples=20, seed=1).draw().observations)
    batches = list(dataset.batches(16, "reconstruction"))
    assert [len(batch.observations) for batch in batches] == [16, 16, 16, 2]
    assert torch.equal(
        torch.cat([batch.observations for batch in batches]), torch.from_numpy(table)
    )
    assert {batch.loss for batch in batches} == {"reconstruction"}


@pytest.mark.parametrize(
    "values, options, reason",
    [
        (None, {"name": "rows.zarr"}, "is no .npy file: write the samples to one"),
        (np.zeros((0, 6)), {}, "has shape (0, 6)"),
        (b"text", {}, "cannot be read"),
        (
            np.zeros((5, 7)),
            {"n_samples": 2},
            "dictionary has shape (6, 9), atoms as columns: it must be (7, any)",
        ),
        (np.zeros((50, 6)), {"n_samples": 51}, "n_samples=51 is above the 50 rows"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, table, values, options, reason):
    if isinstance(values, bytes):
        (tmp_path / "rows.npy").write_bytes(values)
    elif values is not None:
        np.save(tmp_path / "rows.npy", values)
    assert reason in refusal(lambda: made(tmp_path, **options).draw())


def test_a_bad_row_of_a_batch_is_named(tmp_path, table):
    table[33, 2] = np.inf
    np.save(tmp_path / "rows.npy", table)
    with pytest.raises(pudle.InvalidArgument, match="first in row 34"):
        list(made(tmp_path, n_samples=1).batches(10))


PEAK = """
import resource, sys
import numpy as np, pudle
from pudle.algorithms import kernels
kernels.prepare()
estimator, algorithm = pudle.make_estimator("backprop"), pudle.Ista()
dataset = pudle.make_dataset(sys.argv[1])
if "memory_mapped" in sys.argv[1]:
    mean = pudle.mean_estimate(estimator, dataset.batches(2000), algorithm, 10)
    dataset.samples(None, 2000, np.random.default_rng(0))
    print(mean.samples)
else:
    print(len(estimator.estimate(dataset.problem(), algorithm, 10).codes))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peaks(specs):
    """Return the peak memory of a process for each dataset, in KiB, and its number of samples."""
    return [map(int, commands.python(PEAK, spec).stdout.split()) for spec in specs]


@pytest.mark.nightly
def test_peak_memory_does_not_grow_with_the_file(tmp_path):
    """A table of 5 MB and one of 51 MB."""
    random = np.random.default_rng(0)
    dictionary = random.standard_normal((64, 96))
    np.save(tmp_path / "dictionary.npy", dictionary / np.linalg.norm(dictionary, axis=0))
    block = random.standard_normal((10_000, 64))
    specs = []
    for copies in (1, 10):
        path = tmp_path / f"rows{copies}.npy"
        np.save(path, np.tile(block, (copies, 1)))
        specs.append(
            f"memory_mapped(path={str(path)!r}, dictionary={str(tmp_path / 'dictionary.npy')!r},"
            " n_samples=5)"
        )
    (few, small), (many, large) = peaks(specs)
    assert (few, many) == (10_000, 100_000)
    # The process alone is some 300 MB, but the file itself would show as well.
    assert large <= 1.1 * small and large - small < 15_000
