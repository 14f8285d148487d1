"""The selection of one run: which cases, estimators and experiments it measures, frozen into a
file; and the cases that options make of a profile's: datasets x algorithms x losses.
"""

import fnmatch
import math
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from .. import names
from ..data import Dataset
from ..errors import InvalidArgument, PudleError, first_line
from ..problems import Problem
from ..references.certified import MINIMIZER_TARGETS, default_target
from ..references.probe import Probe, probe, why_another
from ..workers import Pool, failure
from .case import Case
from .naming import short, spec_slug
from .options import Options
from .provenance import results_home

T = TypeVar("T")

#: Environment variable that names the file of a frozen selection; without it a plain `asv run`
#: measures the quick profile.
SELECTION_VARIABLE = "PUDLE_SELECTION"


@dataclass(frozen=True)
class Selection:
    """All that one run measures. Discovery reads it from a file, so that names never shift between
    commits.

    Attributes
    ----------
    profile : str
        Name of the profile; results are kept per profile.
    cases : tuple of Case
    estimators : tuple of str
        Specs.
    tracked_depths, timed_depths : tuple of int
        Depths at which asv tracks the accuracy, and those at which costs are measured where they
        are scored.
    costs : tuple of str
        Costs to measure, see `pudle.measuring.results.cost.EstimateCost`.
    torch_depths : tuple of int
        Those of the timed depths at which times are measured on the torch path as well, where
        kernels take its place otherwise. There a time is linear in the depth, so that a few of them
        tell it.
    timeout, experiment_timeout : float
        Seconds that one estimator may take on one case, and that one experiment may take.
    device : str
        ``cpu`` or ``cuda``.
    experiments : tuple of str
        Names of the experiments to carry out, see `pudle.Experiment`.
    limited : tuple of triples of str
        An estimator, a pattern of names of cases, and a reason: an estimator that is named here is
        measured only on cases that match a pattern of its own, and on none that matches one that
        follows ``!``.
    timed_errors : tuple of float
        Errors that answers ask for: each estimator is timed at the depths from which on it has
        them as well.
    threads : int
        Number of threads in which times and memories are measured: those in one and in several are
        different results.
    narrowed : bool
        Whether options left out some of what the profile measures.
    """

    profile: str
    cases: tuple[Case, ...]
    estimators: tuple[str, ...]
    tracked_depths: tuple[int, ...]
    timed_depths: tuple[int, ...]
    timeout: float = 600.0
    costs: tuple[str, ...] = ("memory_bytes", "seconds")
    torch_depths: tuple[int, ...] = ()
    device: str = "cpu"
    experiments: tuple[str, ...] = ()
    experiment_timeout: float = 4 * 3600.0
    limited: tuple[tuple[str, str, str], ...] = ()
    timed_errors: tuple[float, ...] = ()
    threads: int = 1
    narrowed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "estimators", names.specs("estimators", self.estimators))

    @property
    def pairs(self) -> list[tuple[Case, str]]:
        """Every case with every estimator (a spec) that is measured on it, in the order of the
        cases.
        """
        return [
            (case, name)
            for case in self.cases
            for name in self.estimators
            if not self.left_out(case.name, name)
        ]

    def left_out(self, case: str, estimator: str) -> bool:
        """Tell whether an estimator, by its spec, is not measured on a case, by its name, because
        `limited` says so.
        """
        patterns = [pattern for name, pattern, _ in self.limited if name == estimator]
        included = [pattern for pattern in patterns if not pattern.startswith("!")]
        excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        if any(fnmatch.fnmatch(case, pattern) for pattern in excluded):
            return True
        return bool(included) and not any(fnmatch.fnmatch(case, pattern) for pattern in included)


def select(profile: Selection, options: Options, home: Path | None = None) -> Selection:
    """Return the selection of a profile, changed by options.

    Installed plug-ins are measured too, unless the options name the only estimators; those that
    need arguments are named on stderr. A profile's experiments stay unless options choose cases or
    estimators; options that choose experiments alone leave no cases. Datasets that the options name
    are drawn once, and their user's files are imported. `home` is the folder of the results, by
    default the repository's, from which paths in names are seen. Patterns that match nothing and
    specs that name nothing raise InvalidArgument.
    """
    requested = [_canonical_estimator(spec) for spec in options.estimators]
    estimators = requested if options.only else (*profile.estimators, *plugins(), *requested)
    cases = _cases(profile, options, home or results_home())
    is_narrowed = bool(options.only or options.cases or options.crosses)
    experiments = () if is_narrowed else profile.experiments
    if options.experiments:
        known = names.list_experiments()
        hint = f"experiment: `pudle list experiments` lists all {len(known)} of them"
        experiments = tuple(matching(options.experiments, known, "--experiment", hint))
        if not is_narrowed:
            cases = {}
    depths = tuple(sorted(set(options.depths)))
    return replace(
        profile,
        cases=tuple(cases.values()),
        estimators=tuple(dict.fromkeys(estimators)),
        experiments=experiments,
        device=options.device,
        threads=options.threads,
        tracked_depths=depths or profile.tracked_depths,
        timed_depths=depths or profile.timed_depths,
        torch_depths=profile.torch_depths and (depths or profile.torch_depths),
        timeout=options.timeout or profile.timeout,
        experiment_timeout=max(options.timeout or 0.0, profile.experiment_timeout),
        limited=_limits(profile, options, requested),
        narrowed=is_narrowed,
    )


def _limits(
    profile: Selection, options: Options, requested: Collection[str]
) -> tuple[tuple[str, str, str], ...]:
    """Return the limits of a profile that still hold beside options: an estimator that a user names
    is measured wherever the user asks.

    Options that name algorithms lift all limits. Otherwise limits that exclude cases (``!``) stay;
    those that say where an estimator is measured stay unless options change cases, or it is among
    the `requested` ones.
    """
    if options.algorithms:
        return ()
    return tuple(
        (estimator, pattern, reason)
        for estimator, pattern, reason in profile.limited
        if pattern.startswith("!") or not (options.crosses or estimator in requested)
    )


def _cases(profile: Selection, options: Options, home: Path) -> dict[str, Case]:
    """Return the cases that options leave of a profile, or make of them, by name.

    Patterns that match published names choose the profile's cases before these are changed, any
    others choose among the changed ones.
    """
    published = {case.name: case for case in profile.cases}
    # A published name selects its case also where the options change it, and so give it another
    # name.
    names_published = not options.datasets and all(
        fnmatch.filter(published, pattern) for pattern in options.cases
    )
    cases = published
    if names_published:
        cases = matching(options.cases, published, "--case", "")
    if options.crosses:
        cases = cross_cases(cases.values(), options, home)
    if names_published:
        return cases
    hint = f"case of profile {profile.profile}: known are {', '.join(published | cases)}"
    return matching(options.cases, cases, "--case", hint)


def matching(
    patterns: Collection[str], items: dict[str, T], option: str, hint: str
) -> dict[str, T]:
    """Return the items whose name matches a pattern, in their order, and all if there is no
    pattern.

    InvalidArgument, whose text ends with the `hint`, refuses a pattern that matches no name.
    """
    for pattern in patterns:
        if not fnmatch.filter(items, pattern):
            raise InvalidArgument(f"{option} {pattern!r} matches no {hint}")
    matching = {name for pattern in patterns or ["*"] for name in fnmatch.filter(items, pattern)}
    return {name: items[name] for name in items if name in matching}


def _canonical_estimator(spec: str) -> str:
    """Return the canonical spec of an estimator that the user names, whose file is imported.

    SpecError says that it names nothing, and InvalidArgument that its fingerprint, which keys of
    results need, cannot be taken.
    """
    canonical = names.canonical("estimators", spec)
    try:
        canonical.made.fingerprint()
    except Exception as error:
        raise InvalidArgument(
            f"estimator {spec!r} has no fingerprint ({first_line(error)}): repair its package"
        ) from error
    return canonical


def plugins() -> Iterator[str]:
    """Yield the specs of the installed plug-in estimators that need no arguments, with their
    default options; name the others on stderr.

    Imports all plug-ins, and makes an object of each.
    """
    for name, cls in names.list_estimators().items():
        if names.is_plugin(cls):
            try:
                yield names.text(cls())
            except (TypeError, PudleError):
                hint = f"name it with --estimator '{name}(...)'"
                print(f"plug-in {name} needs arguments: {hint}", file=sys.stderr)


def cross_cases(cases: Collection[Case], options: Options, home: Path) -> dict[str, Case]:
    """Return cases by name, with the axes that options name in place of theirs; pairs that do not
    fit are there, to be reported.

    A case that the profile has, at whatever depths, keeps its name there, and with other seeds adds
    their number to it. Any other gets one that says what it is; `home` is the folder of the
    results, from which paths in names are seen. Of two cases with one name the first counts.
    Datasets that the options name are drawn once, see `_cases_on`.

    Raises
    ------
    InvalidArgument
        If a spec names nothing, a dataset cannot be drawn, no dataset has a loss, or none has the
        option ``n_samples``.
    """
    drafts = _drafts(cases, options)
    _check_losses_and_samples(drafts, options)
    published = {_key_without_seeds(case): case for case in cases}
    published_names = {case.name for case in cases}
    crossed: dict[str, Case] = {}
    for case in drafts:
        if same := published.get(_key_without_seeds(case)):
            name = same.name
            if case.seeds != same.seeds:
                name += f"-{options.seeds}_seeds"
        else:
            name = _descriptive_name(case, options, home)
            if name in published_names:
                # The profile's name for another case keeps its meaning.
                name += "-added"
        crossed.setdefault(name, replace(case, name=name))
    return crossed


def _key_without_seeds(case: Case) -> tuple[object, str]:
    return replace(case, seeds=(0,)).problem, case.algorithm


def _drafts(cases: Collection[Case], options: Options) -> list[Case]:
    """Return the crossed cases, which have the names of those that they come from.

    The axes that options leave out are those of the case or, for a dataset that they name, its own
    losses with the algorithm and the target of its problem. The target becomes ``limit`` where the
    thresholding rule leads to no minimizer, unless the options name one.
    """
    bases = list(cases)
    if options.datasets:
        # A profile of experiments alone has no cases.
        like = [*cases, *names.list_profiles()["quick"].cases][0]
        # All are made before the first is drawn: wrong usage shows at once.
        sized = [_with_n_samples(spec, options.samples) for spec in options.datasets]
        bases = [case for dataset in sized for case in _cases_on(dataset, like)]
    rules: list[str] = [names.canonical("algorithms", spec) for spec in options.algorithms]
    drafts = []
    for case in bases:
        dataset = (
            _with_n_samples(case.dataset, options.samples) if options.samples else case.dataset
        )
        for rule, loss in product(rules or [case.algorithm], options.losses or [case.loss]):
            proximal = names.make_algorithm(rule).thresholding.proximal
            leads = proximal or {*MINIMIZER_TARGETS}.isdisjoint(case.targets)
            draft = replace(
                case,
                dataset=dataset,
                algorithm=rule,
                loss=loss,
                seeds=tuple(range(options.seeds)) if options.seeds else case.seeds,
                depths=options.depths or case.depths,
                targets=options.targets or (case.targets if leads else ("limit",)),
            )
            drafts.append(draft)
    return drafts


def _check_losses_and_samples(cases: Collection[Case], options: Options) -> None:
    """Refuse, by InvalidArgument, a loss that no dataset of the cases has, and a number of samples
    that none takes; one that has them is enough.
    """
    datasets = {case.dataset: names.make_dataset(case.dataset) for case in cases}
    offered = dict.fromkeys(loss for dataset in datasets.values() for loss in dataset.losses)
    for loss in options.losses:
        if loss not in offered:
            hint = f"{names.nearest(loss, offered)}: the datasets here have {', '.join(offered)}"
            raise InvalidArgument(f"--loss {loss!r} is unknown{hint}")
    takes_samples = any(hasattr(dataset, "n_samples") for dataset in datasets.values())
    if options.samples and not takes_samples:
        raise InvalidArgument(
            f"--samples is no option of {', '.join(datasets)}: none has n_samples"
        )


def _descriptive_name(case: Case, options: Options, home: Path) -> str:
    """Return a name for a case made of its dataset, algorithm and loss, of the targets and the
    number of seeds that the options name, cut if it is too long.
    """
    parts = [
        spec_slug(case.dataset, home, names.path_options(names.make_dataset(case.dataset))),
        spec_slug(case.algorithm, home, names.path_options(case.make_algorithm())),
        case.loss,
        *options.targets,
    ]
    if options.seeds:
        parts.append(f"{options.seeds}_seeds")
    return short("-".join(parts))


def _with_n_samples(spec: str, samples: int | None) -> names.Spec[Dataset]:
    """Return the spec of a dataset with the number of samples that is given; None, or a dataset
    without such an option, leaves it as it is.
    """
    dataset: Any = names.make_dataset(spec)
    if samples and hasattr(dataset, "n_samples"):
        dataset = replace(dataset, n_samples=samples)
    return names.Spec("datasets", names.text(dataset), dataset)


def _cases_on(spec: names.Spec[Dataset], like: Case) -> list[Case]:
    """Return a case for each loss of a dataset, with the algorithm and the target of its problem,
    and all else as the case `like`.

    The dataset is drawn once, with its first loss, so that an empty folder or an unreadable file is
    refused (InvalidArgument) before anything is measured. A dataset of a user's file is drawn
    again, here and in another process: one that draws another problem would score it by a wrong
    reference.
    """
    dataset = spec.made
    try:
        problem = dataset.problem(dataset.losses[0])
        if names.origin(type(dataset)):
            _check_redraws(spec, problem)
    except InvalidArgument as error:
        _, reason = failure(error)
        raise InvalidArgument(reason) from error
    except PudleError:
        raise
    except Exception as error:
        _, reason = failure(error)
        raise InvalidArgument(
            f"dataset {spec} cannot be drawn ({reason}): repair it, or leave it out"
        ) from error
    like = replace(
        like,
        dataset=spec,
        algorithm=problem.default_algorithm,
        targets=(default_target(problem),),
    )
    return [replace(like, loss=loss) for loss in dataset.losses]


def _check_redraws(spec: names.Spec[Dataset], problem: Problem) -> None:
    """Refuse, by InvalidArgument, a dataset that does not draw the given problem again, here or in
    another process, which is started for that.
    """
    known = probe(problem)
    why = why_another(known, problem) or _why_another_draw(known, spec)
    if not why:
        with Pool(1) as pool:
            outcome = pool.call(math.inf, _why_another_draw, known, str(spec))
        why = outcome.result or outcome.reason
    if why:
        raise InvalidArgument(f"dataset {spec}: {why}")


def _why_another_draw(known: Probe, spec: str) -> str:
    """Return why a dataset does not draw the problem of a probe, an empty text where it does."""
    dataset = names.make_dataset(spec)
    return why_another(known, dataset.problem(dataset.losses[0]))
