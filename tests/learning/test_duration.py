"""How long trainings take, as a list says beforehand: the order of magnitude is that of measured
ones.
"""

import pytest
from support.processes.commands import call

from pudle import names, text
from pudle.learning import commands

#: Seconds on one core that the pages of results state, by experiment.
MEASURED = {
    "2a-T50-backprop-reconstruction": 198,  # docs/results/speed.md: 600 gradients of 0.33 s
    "2a-small-T100-backprop-reconstruction": 52,  # docs/results/solving.md, like the next four
    "2a-small-warm-fista25-reconstruction": 13,
    "2a-small-warm-ista100-reconstruction": 32,
    "2a-small-exact-reconstruction": 12,
    "2b-medium-s10-exact": 6.4,
    "2b-medium-s10-hard": 10,
    "2b-s10-hard": 1650,  # docs/results/recovery.md: 0.12 to 0.21 s a step
    "accuracy-far-lasso-backprop-T10-s0": 6,  # docs/results/how_accurate.md, like the next two
    "accuracy-far-reconstruction-backprop-T100-s0": 31,
    "accuracy-near-reconstruction-exact-T1000-s0": 5,
    "denoising-alternating": 7,  # docs/results/denoising.md, like the next
    "denoising-backprop": 166,
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_list_says_beforehand_about_how_long_a_training_takes(name):
    expected = names.list_experiments()[name].expected_seconds()
    assert 1 / 5 < expected / MEASURED[name] < 5


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 s"), (8, "10 s"), (70, "1 min"), (400, "10 min"), (2400, "30 min"),
        (4000, "1 h"), (80_000, "1 day"), (3e5, "5 days"),
    ],
)  # fmt: skip
def test_durations_are_said_as_orders_of_magnitude(seconds, said):
    assert text.about(seconds) == said


def test_every_experiment_is_listed_with_what_it_shows_and_every_study_with_what_it_asks():
    done = call("list", "experiments")
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    cells = {row[0].strip(): [cell.strip() for cell in row] for row in rows}
    for name, experiment in names.list_experiments().items():
        _, _, takes, shows, *_ = cells[name]
        assert shows, name
        assert bool(takes) == (experiment.expected_seconds() is not None)
    for study in names.entries("experiments"):
        assert f"\n{study}: " in done.stdout


@pytest.mark.parametrize(("short", "said"), [(0.0, True), (1e6, False)])
def test_a_training_says_when_it_starts_about_how_long_it_takes(tmp_path, monkeypatch, short, said):
    monkeypatch.setattr(commands, "SHORT", short)
    options = ["--dataset", "sparse_gaussian(n_samples=50)", "--depth", "2", "--epochs", "1"]
    done = call("learn", *options, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert ("backprop with adam takes about 1 s on one core" in done.stderr) == said
