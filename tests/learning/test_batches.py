"""Fresh samples, and batches that several processes share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from learning_helpers import Watched, assert_same, planted, refusal

import pudle
from pudle import Learner
from pudle.learning.batches import Batches
from pudle.learning.processes import Processes

DATASET = (
    "sparse_gaussian(n_samples=60, n_features=12, n_components=18, n_nonzero_coefs=2,"
    " perturbation=0.1)"
)


# The loss of other samples may be a little larger.
@pytest.mark.filterwarnings("ignore:the loss rose:pudle.learning.learner.LearningWarning")
class TestFresh:
    def test_every_step_has_new_samples_of_the_same_dictionary(self):
        dataset, watched = pudle.make_dataset(DATASET), Watched()
        problem = dataset.problem()
        Learner(watched, "ista", 2, "sgd(learning_rate=1e-6)", epochs=2, batch=25, fresh=True).fit(
            problem, source=dataset
        )
        # As many steps as with the fixed set, in full batches.
        assert [len(batch.observations) for batch in watched.seen] == [25] * 6
        rows = torch.cat([problem.observations, *(batch.observations for batch in watched.seen)])
        assert len(torch.unique(rows, dim=0)) == 60 + 6 * 25

    @pytest.mark.parametrize("spec", [DATASET, "bernoulli_gaussian(n_samples=60, noise=0)"])
    def test_samples_are_made_by_the_generating_dictionary(self, spec):
        dataset = pudle.make_dataset(spec)
        problem = dataset.problem()
        batch = Batches(problem, 25, 3, dataset, Processes()).of_step(4).tensors
        made = batch["generating_codes"] @ problem.generating_dictionary.T
        torch.testing.assert_close(batch["observations"], made, rtol=0, atol=1e-14)

    def test_rows_of_an_array_on_disk_are_read_batch_by_batch(self, tmp_path, monkeypatch):
        values = np.random.default_rng(0).standard_normal((200, 12))
        np.save(tmp_path / "x.npy", values)
        np.save(tmp_path / "d.npy", planted(n_features=12).dictionary.numpy())
        spec = (
            f"memory_mapped(path={str(tmp_path / 'x.npy')!r},"
            f" dictionary={str(tmp_path / 'd.npy')!r}, n_samples=50)"
        )
        experiment = pudle.LearningExperiment(
            spec, "lasso", "alternating", "ista", 3, epochs=2, batch=25, fresh=True
        )
        batches = Batches(experiment.problem(), 25, 0, experiment.source(), Processes())
        seen = [batches.of_step(step).tensors["observations"].numpy() for step in range(4)]
        for observations in seen:
            at = [int(np.flatnonzero((values == row).all(1))[0]) for row in observations]
            assert len(set(at)) == 25
        assert not np.array_equal(seen[0], seen[1])
        training = experiment.learner().fit(experiment.problem(), source=experiment.source())
        assert training.steps == 4 and training.history.support_recovery.isna().all()

    def test_support_recovery_is_that_of_the_fresh_codes(self):
        dataset = pudle.make_dataset(
            "sparse_gaussian(n_samples=60, n_features=60, n_components=80, n_nonzero_coefs=2)"
        )
        problem = dataset.problem("reconstruction")
        problem = dataclasses.replace(problem, dictionary=problem.generating_dictionary)
        options = {
            "algorithm": "noodl(step=0.2)",
            "depth": 60,
            "optimizer": "sgd(learning_rate=1e-9)",
            "epochs": 2,
        }
        history = Learner("noodl", **options, fresh=True).fit(problem, source=dataset).history
        assert history.support_recovery.iloc[-1] > 0.9

    def test_a_resumed_training_ends_bitwise_where_an_uninterrupted_one_does(self, tmp_path):
        dataset = pudle.make_dataset(DATASET)
        problem, short = (
            dataset.problem(),
            Learner("alternating", "ista", 5, epochs=2, batch=25, fresh=True),
        )
        long = dataclasses.replace(short, epochs=4)
        short.fit(problem, folder=tmp_path, source=dataset)
        assert_same(
            long.fit(problem, folder=tmp_path, source=dataset, resume=True),
            long.fit(problem, source=dataset),
        )
        other = dataclasses.replace(dataset, noise=0.1)
        assert "with source='sparse_gaussian(" in refusal(
            lambda: long.fit(problem, folder=tmp_path, source=other, resume=True)
        )

    def test_what_cannot_be_drawn_from_is_refused(self):
        learner, problem = Learner("alternating", "ista", 2, epochs=1, fresh=True), planted()
        assert "fresh=True and source=... belong together" in refusal(lambda: learner.fit(problem))
        plain = dataclasses.replace(learner, fresh=False)
        assert "belong together" in refusal(
            lambda: plain.fit(problem, source=pudle.make_dataset(DATASET))
        )
        bare = dataclasses.replace(problem, generating_dictionary=None, generating_codes=None)
        assert "need the problem's generating_dictionary" in refusal(
            lambda: learner.fit(bare, source=pudle.make_dataset(DATASET))
        )
        digits = pudle.make_dataset("digits(n_samples=100)")
        assert "dataset digits has no fresh samples to draw" in refusal(
            lambda: digits.samples(np.eye(64), 3, np.random.default_rng(0))
        )
        for spec in ("convolutional", "noisy_crops"):
            experiment = pudle.LearningExperiment(spec, fresh=True)
            assert f"dataset {spec!r} has no fresh samples to draw" in refusal(experiment.source)


@pytest.mark.parametrize("size", [None, 25])
@pytest.mark.parametrize("count", [2, 3, 80])
@pytest.mark.parametrize("fresh", [False, True])
def test_the_parts_of_all_processes_are_the_batch(size, count, fresh):
    dataset = pudle.make_dataset(DATASET)
    problem, source = dataset.problem(), dataset if fresh else None
    alone = Batches(problem, size, 0, source, Processes())
    shared = [Batches(problem, size, 0, source, Processes(rank, count)) for rank in range(count)]
    for step in range(4):
        whole, parts = alone.of_step(step), [batches.of_step(step) for batches in shared]
        assert (
            {part.samples for part in parts}
            == {whole.samples}
            == {len(whole.tensors["observations"])}
        )
        for name, tensor in whole.tensors.items():
            assert torch.equal(torch.cat([part.tensors[name] for part in parts]), tensor)
        lengths = [len(part.tensors["observations"]) for part in parts]
        assert max(lengths) - min(lengths) <= 1
