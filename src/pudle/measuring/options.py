"""What to measure, as commands and Python say it: one record for `pudle run`, `pudle compare --run`
and `pudle.benchmark`.
"""

from dataclasses import dataclass

from ..errors import InvalidArgument


@dataclass(frozen=True)
class Options:
    """The options of a run: what it measures in place of a profile's choice, or beside it.

    Attributes
    ----------
    estimators : tuple of str
        Specs of estimators to measure beside the profile's.
    only : bool
        Whether to measure these estimators alone.
    datasets, algorithms, losses : tuple of str
        Specs of datasets and algorithms, and names of outer losses, which are crossed. A dataset
        that is named without an algorithm is run with ISTA, or with the step that its problem
        brings; without a loss, it has all of its own.
    targets : tuple of str
        Targets of the references; without any, ``exact`` where the minimizer is known and sought,
        else ``limit``.
    depths : tuple of int
        Numbers of layers.
    seeds : int, optional
        Number of seeds: 0 to seeds - 1.
    samples : int, optional
        Number of samples of every dataset that has the option ``n_samples``.
    cases : tuple of str
        Patterns of names of the cases to keep, of the profile or as changed.
    experiments : tuple of str
        Patterns of names of the experiments to carry out. Without any, those of the profile stay
        unless the other options change something; with some, cases stay only if they do.
    device : {"cpu", "cuda"}
    timeout : float, optional
        Seconds that one estimator may take on one case, and experiments where it exceeds theirs.
    threads : int
        Number of threads in which times and memories are measured.
    """

    estimators: tuple[str, ...] = ()
    only: bool = False
    datasets: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()
    seeds: int | None = None
    samples: int | None = None
    cases: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    device: str = "cpu"
    timeout: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InvalidArgument(f"--threads {self.threads} is no number of threads: give >= 1")
        if self.threads > 1:
            self._check_cores()
        if self.only and not self.estimators:
            raise InvalidArgument("--only needs at least one --estimator SPEC to measure")
        chooses_cases = self.only or self.cases or self.datasets or self.algorithms
        chooses_cases = chooses_cases or self.losses or self.targets
        if self.experiments and not chooses_cases and self.crosses:
            raise InvalidArgument(
                "--seeds, --samples and --depth change cases, not experiments: name cases with"
                " --case, or run `pudle learn --experiment NAME --seed 1` for another seed"
            )

    @property
    def crosses(self) -> bool:
        """Tell whether the cases become others than the profile's."""
        axes = (self.datasets, self.algorithms, self.losses, self.targets, self.depths)
        return any(axes) or bool(self.seeds or self.samples)

    def _check_cores(self) -> None:
        """Refuse, by InvalidArgument, more threads than this process may use cores; imports
        torch.
        """
        # Not above: it loads torch, which takes a second that `--help` need not wait for.
        from ..threads import number_of_cores

        cores = number_of_cores()
        if self.threads > cores:
            raise InvalidArgument(
                f"--threads {self.threads} is more than the {cores} cores that this process may"
                " use: give no more, because times would be those of waiting threads"
            )
