"""Fresh samples, and batches that several processes share."""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles.comparisons import refusal
from support.problems.learning import Watched, assert_same, planted

import pudle
from pudle import Learner, LearningWarning
from pudle.learning.processes import Processes
from pudle.learning.run import LearningRun

DATASET = pudle.make_dataset(
    "sparse_gaussian(n_samples=60, n_features=12, n_components=18, n_nonzero_coefs=2,"
    " perturbation=0.1)"
)


# The loss of other samples may be a little larger.
@pytest.mark.filterwarnings("ignore:the loss rose:pudle.learning.learner.LearningWarning")
class TestFresh:
    def test_every_step_has_new_samples_of_the_same_dictionary(self):
        problem, watched = DATASET.problem(), Watched()
        learner = Learner(
            watched, "ista", 2, "sgd(learning_rate=1e-6)", epochs=2, batch=25, fresh=True
        )
        learner.fit(problem, source=DATASET)
        # As many steps as with the fixed set, in full batches.
        assert [len(batch.observations) for batch in watched.seen] == [25] * 6
        rows = torch.cat([problem.observations, *(batch.observations for batch in watched.seen)])
        assert len(torch.unique(rows, dim=0)) == 60 + 6 * 25
        _, tensors = LearningRun(learner, problem, source=DATASET).batch(4)
        made = tensors["generating_codes"] @ problem.generating_dictionary.T
        torch.testing.assert_close(tensors["observations"], made, rtol=0, atol=1e-14)

    def test_rows_of_an_array_on_disk_are_read_batch_by_batch(self, tmp_path):
        values = np.random.default_rng(0).standard_normal((200, 12))
        np.save(tmp_path / "x.npy", values)
        np.save(tmp_path / "d.npy", planted(n_features=12).dictionary.numpy())
        spec = (
            f"memory_mapped(path='{tmp_path}/x.npy', dictionary='{tmp_path}/d.npy', n_samples=50)"
        )
        options = {"estimator": "alternating", "depth": 3, "epochs": 2, "batch": 25, "fresh": True}
        experiment = pudle.LearningExperiment(spec, **options)
        learner, problem, source = experiment.learner(), experiment.problem(), experiment.source()
        run = LearningRun(learner, problem, source=source)
        seen = [run.batch(step)[1]["observations"].numpy() for step in range(4)]
        for observations in seen:
            assert (
                len({int(np.flatnonzero((values == row).all(1))[0]) for row in observations}) == 25
            )
        assert not np.array_equal(seen[0], seen[1])
        training = learner.fit(problem, source=source)
        assert training.steps == 4 and training.history.support_recovery.isna().all()

    def test_a_resumed_training_ends_bitwise_where_an_uninterrupted_one_does(self, tmp_path):
        problem = DATASET.problem()
        short = Learner("alternating", "ista", 5, epochs=2, batch=25, fresh=True)
        long = dataclasses.replace(short, epochs=4)
        short.fit(problem, folder=tmp_path, source=DATASET)
        assert_same(
            long.fit(problem, folder=tmp_path, source=DATASET, resume=True),
            long.fit(problem, source=DATASET),
        )
        other = dataclasses.replace(DATASET, noise=0.1)
        assert "with source='sparse_gaussian(" in refusal(
            lambda: long.fit(problem, folder=tmp_path, source=other, resume=True)
        )

    def test_what_cannot_be_drawn_from_is_refused(self):
        learner, problem = Learner("alternating", "ista", 2, epochs=1, fresh=True), planted()
        assert "fresh=True and source=... belong together" in refusal(lambda: learner.fit(problem))
        bare = dataclasses.replace(problem, generating_dictionary=None, generating_codes=None)
        assert "need the problem's generating_dictionary" in refusal(
            lambda: learner.fit(bare, source=DATASET)
        )


@pytest.mark.parametrize("size, count", [(None, 3), (25, 2), (25, 80)])
@pytest.mark.parametrize("fresh", [False, True])
def test_the_parts_of_all_processes_are_the_batch(size, count, fresh):
    learner, problem = Learner(batch=size, fresh=fresh), DATASET.problem()
    alone, *shared = (
        LearningRun(learner, problem, source=DATASET if fresh else None, processes=processes)
        for processes in (Processes(), *(Processes(rank, count) for rank in range(count)))
    )
    for step in range(4):
        samples, whole = alone.batch(step)
        parts = [run.batch(step) for run in shared]
        assert {each for each, _ in parts} == {samples} == {len(whole["observations"])}
        for name, tensor in whole.items():
            assert torch.equal(torch.cat([part[name] for _, part in parts]), tensor)
        lengths = [len(part["observations"]) for _, part in parts]
        assert max(lengths) - min(lengths) <= 1


@dataclasses.dataclass(frozen=True)
class Unmoved(pudle.GradientEstimator):
    """Estimates zero, and keeps the observations and the codes of every call."""

    seen: list = dataclasses.field(default_factory=list, compare=False)

    name = "unmoved"
    computes = "heuristic"

    def estimate(self, problem, algorithm, depth):
        codes = algorithm.run(problem, depth).codes
        self.seen.append((problem.observations, codes))
        return pudle.Estimate(torch.zeros_like(problem.theta), codes)


class TestWarmStart:
    @pytest.mark.parametrize("batch, chunk", [(None, None), (25, 10)])
    def test_layers_of_a_sample_go_on_where_those_of_the_epoch_before_ended(self, batch, chunk):
        """As long as the dictionary stays: three epochs of four layers are twelve layers."""
        problem, estimator = DATASET.problem(), Unmoved()
        learner = Learner(
            estimator, "ista", 4, "sgd", epochs=3, batch=batch, chunk=chunk, warm_start=True
        )
        with pytest.warns(LearningWarning, match="every gradient is zero"):
            learner.fit(problem)
        observations, codes = (torch.cat(each) for each in zip(*estimator.seen, strict=True))
        for epoch in range(3):
            # The order of the samples is another in every epoch.
            rows = range(60 * epoch, 60 * (epoch + 1))
            expected = pudle.Ista().run(
                dataclasses.replace(
                    problem, observations=observations[rows], generating_codes=None
                ),
                4 * (epoch + 1),
            )
            torch.testing.assert_close(codes[rows], expected.codes, rtol=0, atol=1e-12)

    def test_samples_that_never_return_are_refused(self):
        assert "with fresh=True no sample comes twice" in refusal(
            lambda: Learner(fresh=True, warm_start=True)
        )
