"""What an estimator claims, checked against truth it had no part in.

The truth is written in numpy (`pudle.conformance.oracles`): layers, their derivatives by a step into the complex plane with
the algorithm's step held constant, the implicit function theorem in closed form; and, for errors that should vanish with
depth, the certified reference. It is never another estimator.

>>> from pudle import conformance
>>> records = conformance.check(estimator)
>>> assert not [record for record in records if record.status == "failed"]
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .. import specs
from ..errors import MissingDependency, PudleError, UnsupportedProblem
from ..estimator import CLAIMS, Estimate, GradientEstimator
from ..measuring.scoring import score
from ..problems import Problem
from ..references.certified import Reference, reference
from .oracles import Array, Model
from .specimens import ALGORITHMS, Setting, settings

# --- limits; relative to the Euclidean norm of the truth unless said otherwise

#: The same numbers reached by the same operations in another order: a few hundred roundings of float64.
SAME = 1e-12
#: Two float64 programs for one expression, whose condition number is modest: float32 anywhere in between shows.
EXACT = 1e-9
#: A difference quotient in float64: rounding over the step, and the kinks within it.
QUOTIENT = 1e-6
#: An implicit system solved by an iteration to a tolerance of its own.
SOLVED = 1e-6
#: float32 has 6e-8 relative precision; sixty layers and the sum over the samples cost two digits.
SINGLE = 2e-5
#: A difference quotient of a loss known to 6e-8, over a step that balances truncation: the cube root of the precision.
SINGLE_QUOTIENT = 5e-2
#: What is left of the error after `DEEP` layers on the regular problems, where that through all layers is below 1e-7. A
#: window of 50 layers still shows its floor, above 1e-5 for most.
VANISHED = 1e-6
#: Standard errors that the mean of a random gradient may be off by.
STANDARD_ERRORS = 4.0
#: Standard error, as a share of the truth's norm, below which that tells a right mean from a wrong one.
TELLING = 0.1

#: Below this, float32 somewhere on the way is the likeliest cause.
ROUNDED = 1e-5

# --- depths

#: Two layers, where the first and the last differ in kind, and as many as it takes for supports to move in most samples.
SHALLOW = (2, 12)
#: Deep enough for an implicit system on the support to be regular and the codes to be nearly at rest.
SETTLED = 60
#: For means over draws, which cost the most.
AVERAGED = 8
DEEP = 250
GREAT = 1000
#: Draws of a random gradient, at least and at most; between them, as many as this number of layers allows. A bias of some
#: percent needs hundreds, which a method that runs hundreds of times for one draw cannot have.
SEEDS, MOST_SEEDS, LAYERS = 16, 400, 20_000

PLAIN = ("ista", "fista")
#: Problems on which every claim of an implicit gradient is regular, and errors vanish within `DEEP` layers.
REGULAR = ("square", "convolutional", "penalty", "ridge")
GRID = settings(algorithms=PLAIN)
VARIED = GRID + settings("sparse coding", algorithms=tuple(name for name in ALGORITHMS if name not in PLAIN))
#: A mean takes many draws, and these kinds differ most in what a gradient is made of.
STOCHASTIC = settings("sparse coding", "convolutional", "penalty", "ridge")


@dataclass(frozen=True)
class Record:
    """What became of one check on one problem.

    Attributes
    ----------
    check : str
        A name in `CHECKS`.
    problem, loss, algorithm : str
        Where; empty for what concerns the class alone.
    status : {"passed", "failed", "refused"}
        ``refused``: the estimator said by `UnsupportedProblem` why it does not treat this.
    number, limit : float or None
        What was measured and what it is held to, where the check measures.
    reason : str
        Why it failed or was refused, in one line; empty where it passed.
    """

    check: str
    problem: str
    loss: str
    algorithm: str
    status: str
    number: float | None = None
    limit: float | None = None
    reason: str = ""


class NotMet(Exception):
    """A check found what it looks for."""

    def __init__(self, reason: str, number: float | None = None, limit: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.number, self.limit = reason, number, limit


#: The number a check measured and its limit; None where it measures nothing.
Measured = tuple[float, float] | None
Settings = tuple[Setting, ...] | Callable[[GradientEstimator], tuple[Setting, ...]]


@dataclass(frozen=True)
class Check:
    """One thing that is checked.

    Attributes
    ----------
    name : str
    description : str
        In one line.
    measure : callable
        Takes the estimator and a setting; returns what it measured or raises `NotMet`.
    settings : tuple of Setting or callable
        Where it is checked, perhaps depending on the estimator; empty for checks of the class alone.
    """

    name: str
    description: str
    measure: Callable[[GradientEstimator, Setting], Measured]
    settings: Settings

    def settings_for(self, estimator: GradientEstimator) -> tuple[Setting, ...]:
        """Where this is checked for that estimator."""
        return self.settings(estimator) if callable(self.settings) else self.settings

    def __call__(self, estimator: GradientEstimator, setting: Setting) -> Record:
        where = (self.name, setting.problem, setting.loss, setting.algorithm)
        try:
            measured = self.measure(estimator, setting)
        except NotMet as finding:
            return Record(*where, "failed", finding.number, finding.limit, finding.reason)
        except UnsupportedProblem as refusal:
            fault = _fault_of_refusal(refusal)
            return Record(*where, "failed" if fault else "refused", reason=fault or str(refusal))
        except MissingDependency:
            # Nothing can be said of an estimator that cannot run here.
            raise
        except Exception as error:  # noqa: BLE001  # whatever the code under test raises is a finding, not our crash
            text = " ".join(str(error).split()) or "without a word"
            advice = "raise UnsupportedProblem, saying what is missing, if this cannot be treated"
            return Record(*where, "failed", reason=f"raised {type(error).__name__}: {text[:200]}; {advice}")
        number, limit = measured or (None, None)
        return Record(*where, "passed", number, limit)


CHECKS: dict[str, Check] = {}
#: The setting of checks that concern the class alone.
NOWHERE = Setting("", "", "")


def check(
    estimator: GradientEstimator, show: Callable[[str, int, int], None] | None = None, names: tuple[str, ...] = ()
) -> list[Record]:
    """Run all checks, or the named ones, on an estimator.

    Parameters
    ----------
    estimator : GradientEstimator
    show : callable, optional
        Called before each step with what is checked, how many steps are done and how many there are.
    names : tuple of str
        Names in `CHECKS`; all where empty.

    Raises
    ------
    MissingDependency
        If the estimator needs a library that is not installed.
    """
    steps = [(one, at) for one in CHECKS.values() if not names or one.name in names for at in one.settings_for(estimator)]
    records = []
    for done, (one, at) in enumerate(steps):
        if show:
            show(f"{one.name} {at}" if at.problem else one.name, done, len(steps))
        records.append(one(estimator, at))
    if show:
        show("done", len(steps), len(steps))
    claims = [record for record in records if record.check == "claim"]
    if claims and not any(record.status == "passed" for record in claims):
        if all(record.status == "refused" for record in claims):
            reason = f"refuses every problem, so that nothing was checked: {claims[0].reason}"
            records.append(Record("claim", "", "", "", "failed", reason=reason))
    return records


def _check(name: str, where: Settings = (NOWHERE,)) -> Callable[[Callable[[GradientEstimator, Setting], Measured]], Check]:
    """Register a function as a check; its docstring's first line is the description."""

    def register(measure: Callable[[GradientEstimator, Setting], Measured]) -> Check:
        CHECKS[name] = Check(name, (measure.__doc__ or "").strip().splitlines()[0], measure, where)
        return CHECKS[name]

    return register


# --- what it says about itself


@_check("description")
def check_description(estimator: GradientEstimator, setting: Setting) -> Measured:
    """It is a frozen dataclass with a name, a claim, and a spec that makes it again."""
    cls = type(estimator)
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise NotMet(f"name is {name!r}: set name to a word that a spec can hold, such as 'my_method'")
    if getattr(estimator, "computes", None) not in CLAIMS:
        claim = getattr(estimator, "computes", None)
        raise NotMet(f"computes is {claim!r}: set it to one of {', '.join(CLAIMS)}")
    for what in ("aliases", "references", "consistent_for"):
        value = getattr(cls, what)
        # A lone text is a sequence of letters, and would pass for one.
        if not (what == "consistent_for" and value is None):
            if not isinstance(value, tuple) or not all(isinstance(text, str) and text for text in value):
                raise NotMet(f"{what} is {value!r}: give a tuple of texts")
    unknown = set(cls.consistent_for or ()) - {one.loss for one in GRID}
    if unknown:
        known = ", ".join(sorted({one.loss for one in GRID}))
        raise NotMet(f"consistent_for names {sorted(unknown)}: known losses are {known}")
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:
        raise NotMet(f"{cls.__name__} is not frozen: decorate it with @dataclass(frozen=True)")
    if specs.build(specs.text(estimator), {name: cls}, "estimator") != estimator:
        raise NotMet(f"the spec {specs.text(estimator)!r} makes another estimator: keep all options in fields")
    return None


# --- what it returns


@_check("form", settings() + settings("sparse coding", algorithms=("fista",)))
def check_form(estimator: GradientEstimator, setting: Setting) -> Measured:
    """Gradient and codes have the problem's shape, dtype and device, no graph, and finite entries."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for dtype, device in ((dtype, device) for dtype in (torch.float64, torch.float32) for device in devices):
        problem = setting.make(dtype, device)
        problem.theta.requires_grad_()
        result = estimator.estimate(problem, setting.make_algorithm(dtype, device), 3)
        if not isinstance(result, Estimate):
            raise NotMet(f"estimate returned a {type(result).__name__}: return a pudle.Estimate")
        theta = problem.theta
        for name, tensor, shape in (
            ("gradient", result.gradient, tuple(theta.shape)),
            ("codes", result.codes, problem.code_shape),
        ):
            if not isinstance(tensor, torch.Tensor):
                raise NotMet(f"{name} is a {type(tensor).__name__}: return a tensor")
            if tuple(tensor.shape) != shape:
                raise NotMet(f"{name} has shape {tuple(tensor.shape)} where {shape} is due")
            for what, mine, due in (("dtype", tensor.dtype, dtype), ("device", tensor.device, theta.device)):
                if mine != due:
                    raise NotMet(f"{name} has {what} {mine} on a problem with {what} {due}: follow the problem's tensors")
            if tensor.requires_grad:
                raise NotMet(f"{name} still has a graph: return {name}.detach()")
            _finite(name, tensor, 3)
        if result.gradient.numel() and result.gradient.data_ptr() == theta.data_ptr():
            raise NotMet("gradient shares its memory with theta: return a tensor of its own")
    return None


@_check("codes", VARIED)
def check_codes(estimator: GradientEstimator, setting: Setting) -> Measured:
    """Codes are those of the algorithm, at its own step."""
    worst = 0.0
    for depth in SHALLOW:
        result = estimator.estimate(setting.make(), setting.make_algorithm(), depth)
        mine, truth = _codes(result), setting.model.codes(setting.layers, depth)
        distance = _distance(mine, truth)
        if not distance < EXACT:
            raise NotMet(_explain_codes(mine, setting, depth), distance, EXACT)
        worst = max(worst, distance)
    return worst, EXACT


@_check("single_precision", settings("square", algorithms=PLAIN))
def check_single_precision(estimator: GradientEstimator, setting: Setting) -> Measured:
    """float32 agrees with float64 to the accuracy of float32."""
    single, double = (
        estimator.estimate(setting.make(dtype), setting.make_algorithm(dtype), SETTLED)
        for dtype in (torch.float32, torch.float64)
    )
    distance = _distance(_gradient(single), _gradient(double))
    limit = SINGLE_QUOTIENT if _is_quotient(double) else SINGLE
    return _hold(distance, limit, f"float32 and float64 differ by {distance:.1e} at depth {SETTLED}")


# --- its claim


def _where_claims(estimator: GradientEstimator) -> tuple[Setting, ...]:
    claim = getattr(estimator, "computes", None)
    if claim == "implicit":
        return settings(*REGULAR, algorithms=PLAIN)
    return STOCHASTIC if claim == "stochastic" else VARIED


@_check("claim", _where_claims)
def check_claim(estimator: GradientEstimator, setting: Setting) -> Measured:
    """The gradient is what `computes` says, by a derivative that had no part in it."""
    claim = getattr(estimator, "computes", None)
    if claim not in CLAIMS:
        raise NotMet(f"computes is {claim!r}: set it to one of {', '.join(CLAIMS)}")
    if claim == "stochastic":
        return _check_mean(estimator, setting)
    if claim == "implicit":
        return _check_implicit(estimator, setting)
    if claim == "heuristic":
        return _check_descent(estimator, setting)
    worst, limit = 0.0, EXACT
    for depth in SHALLOW:
        result = estimator.estimate(setting.make(), setting.make_algorithm(), depth)
        window = _window_of(result, depth) if claim == "truncated" else 0 if claim == "direct" else depth
        distance, limit = _hold_gradient(result, setting, depth, window)
        worst = max(worst, distance)
    return worst, limit


def _check_implicit(estimator: GradientEstimator, setting: Setting) -> Measured:
    """At nearly settled codes: the theorem itself, or where it admits to an error, closer to that than the direct part."""
    result = estimator.estimate(setting.make(), setting.make_algorithm(), SETTLED)
    codes = setting.model.codes(setting.layers, SETTLED)
    truth, direct, mine = setting.model.implicit(codes), setting.model.direct(codes), _gradient(result)
    if type(estimator).consistent_for is None:
        distance = _distance(mine, truth)
        if not distance < SOLVED:
            raise NotMet(_explain(mine, truth, setting, SETTLED, "the implicit gradient"), distance, SOLVED)
        return distance, SOLVED
    left = float(np.linalg.norm(mine - truth) / np.linalg.norm(direct - truth))
    if not left < 1:
        looks = _explain(mine, truth, setting, SETTLED, "the implicit gradient")
        reason = f"{left:.2g} times as far from the implicit gradient as the direct part alone, which it should correct"
        raise NotMet(f"{reason}: {looks}", left, 1.0)
    return left, 1.0


def _check_descent(estimator: GradientEstimator, setting: Setting) -> Measured:
    """A step against it lowers the loss at the codes it was taken at: its angle to the direct part is below 90 degrees.

    No more can be said of what is the gradient of no loss. Its formula is for its own tests to check.
    """
    worst = 0.0
    for depth in SHALLOW:
        result = estimator.estimate(setting.make(), setting.make_algorithm(), depth)
        mine, direct = _gradient(result), setting.model.direct(setting.model.codes(setting.layers, depth))
        if mine.shape != direct.shape:
            raise NotMet(f"shape {mine.shape} where {direct.shape} is due")
        product, sizes = float((mine * direct).sum()), float(np.linalg.norm(mine) * np.linalg.norm(direct))
        # Where no step would change the loss, none is due.
        angle = 1 - product / sizes if sizes else float(np.linalg.norm(mine) > 0)
        reason = f"cosine {1 - angle:.3g} to the direct part at depth {depth}: a step against it does not lower the loss"
        worst = max(worst, _hold(angle, 1.0, reason)[0])
    return worst, 1.0


def _check_mean(estimator: GradientEstimator, setting: Setting) -> Measured:
    """Over seeds, projections of the gradient average to those of the unrolled gradient, or of the direct part."""
    if "seed" not in _options(estimator):
        raise NotMet("a stochastic estimator needs a field `seed`: without it the draws cannot be repeated or averaged")
    depth = AVERAGED
    model, layers = setting.model, setting.layers
    truths = {
        "the unrolled gradient": model.unrolled(layers, depth),
        "the direct part": model.direct(model.codes(layers, depth)),
    }
    axes: list[Array] = [truth for truth in truths.values() if truth.any()]
    axes += [np.asarray(np.random.default_rng(index).standard_normal(model.theta.shape)) for index in range(2)]
    axes = [axis / np.linalg.norm(axis) for axis in axes]
    size = max(float(np.linalg.norm(truth)) for truth in truths.values())
    draws: list[list[float]] = []
    layers_run = 0
    for seed in range(MOST_SEEDS):
        drawn = dataclasses.replace(estimator, seed=seed)  # type: ignore[type-var]
        result = drawn.estimate(setting.make(), setting.make_algorithm(), depth)
        draws.append([float((_gradient(result) * axis).sum()) for axis in axes])
        layers_run += int(result.diagnostics.get("layers", depth * result.diagnostics.get("evaluations", 1)))
        if len(draws) < SEEDS or layers_run < LAYERS:
            continue
        spread = np.std(draws, axis=0, ddof=1) / len(draws) ** 0.5
        if spread.max() < TELLING * size:
            break
    spread = np.std(draws, axis=0, ddof=1) / len(draws) ** 0.5
    mean = np.mean(draws, axis=0)
    # A mean that does not vary is held to what a difference quotient reaches.
    errors = {
        name: max(
            abs(value - float((truth * axis).sum())) / max(float(error), QUOTIENT * size / STANDARD_ERRORS)
            for value, error, axis in zip(mean.tolist(), spread, axes, strict=True)
        )
        for name, truth in truths.items()
    }
    name, worst = min(errors.items(), key=lambda item: item[1])
    if worst < STANDARD_ERRORS and spread.max() >= TELLING * size:
        raise NotMet(
            f"after {len(draws)} seeds the standard error is still {spread.max() / size:.2g} of the truth, which hides any "
            f"bias: check it with more samples",
            float(spread.max() / size),
            TELLING,
        )
    ratio = float(mean[0] / (truths["the unrolled gradient"] * axes[0]).sum())
    reason = f"the mean over {len(draws)} seeds is {worst:.3g} standard errors from {name}"
    factor = _power(ratio, estimator)
    return _hold(worst, STANDARD_ERRORS, f"{reason}; along the unrolled gradient it is {ratio:.3g} times that{factor}")


def _where_windows(estimator: GradientEstimator) -> tuple[Setting, ...]:
    has = getattr(estimator, "computes", None) == "truncated" and "window" in _options(estimator)
    return settings("sparse coding", algorithms=PLAIN) if has else ()


@_check("window", _where_windows)
def check_window(estimator: GradientEstimator, setting: Setting) -> Measured:
    """The window asked for is the window used, and one above the depth is full backpropagation."""
    depth, worst, limit = 40, 0.0, EXACT
    for window in (1, 7, depth - 1, depth, 10 * depth):
        changed = dataclasses.replace(estimator, window=window)  # type: ignore[type-var]
        result = changed.estimate(setting.make(), setting.make_algorithm(), depth)
        told, due = _window_of(result, depth), min(window, depth)
        if told != due:
            raise NotMet(f"window={window} at depth {depth} differentiates {told} layers where {due} are due", told, due)
        distance, limit = _hold_gradient(result, setting, depth, due)
        worst = max(worst, distance)
    return worst, limit


def _where_consistent(estimator: GradientEstimator) -> tuple[Setting, ...]:
    if getattr(estimator, "computes", None) == "stochastic":
        return ()
    claimed = type(estimator).consistent_for
    return tuple(setting for setting in settings(*REGULAR, algorithms=PLAIN) if claimed is None or setting.loss in claimed)


@_check("consistency", _where_consistent)
def check_consistency(estimator: GradientEstimator, setting: Setting) -> Measured:
    """The error against the certified reference vanishes with depth for the losses in `consistent_for`."""
    truth = _certified(setting)
    # A sweep, for it is often the cheaper way; that it agrees with estimate is a check of its own.
    swept = estimator.sweep(setting.make(), setting.make_algorithm(), [DEEP // 2, DEEP])
    earlier, last = (_error(result, truth) for result in swept)
    claim = "consistent_for is None, which claims every loss" if type(estimator).consistent_for is None else (
        f"consistent_for claims {setting.loss}"
    )  # fmt: skip
    reason = f"relative error {last:.2g} at depth {DEEP}, {earlier:.2g} at {DEEP // 2}: it does not vanish, though {claim}"
    return _hold(last, VANISHED, reason)


# --- what it leaves alone


@_check("no_mutation", settings())
def check_no_mutation(estimator: GradientEstimator, setting: Setting) -> Measured:
    """The problem's tensors, their gradients and their flags stay as they were."""
    for flag in (False, True):
        problem = setting.make()
        problem.theta.requires_grad_(flag)
        before = {name: (tensor, tensor.detach().clone(), tensor._version) for name, tensor in _tensors(problem).items()}
        estimator.estimate(problem, setting.make_algorithm(), 4)
        for name, (tensor, copy, version) in before.items():
            if getattr(problem, name) is not tensor:
                raise NotMet(f"{name} was replaced by another tensor: problems are immutable, use with_theta")
            if not torch.equal(tensor.detach(), copy):
                moved = float((tensor.detach() - copy).norm() / copy.norm())
                raise NotMet(f"{name} was changed, by {moved:.1e} of its norm: problems are immutable", moved, 0.0)
            if tensor._version != version:
                raise NotMet(f"{name} was written to, and the old values put back: another thread would see it")
            if tensor.grad is not None:
                raise NotMet(f"{name}.grad was filled: use torch.autograd.grad on theta.detach().requires_grad_()")
        if problem.theta.requires_grad is not flag:
            raise NotMet(f"theta.requires_grad was left {not flag}: use problem.with_theta with a tensor of your own")
    return None


@_check("repeatable", settings("sparse coding"))
def check_repeatable(estimator: GradientEstimator, setting: Setting) -> Measured:
    """A second call, and an equal estimator, give the same bits."""
    again = dataclasses.replace(estimator) if dataclasses.is_dataclass(estimator) else estimator
    first, *others = (
        _gradient(one.estimate(setting.make(), setting.make_algorithm(), SHALLOW[-1]))
        for one in (estimator, estimator, again)
    )
    for name, other in zip(("a second call", "an equal estimator"), others, strict=True):
        if not np.array_equal(first, other):
            distance = _distance(other, first)
            raise NotMet(f"{name} gives a gradient that differs by {distance:.1e}: keep no state", distance, 0.0)
    return None


@_check("random_state", settings("sparse coding"))
def check_random_state(estimator: GradientEstimator, setting: Setting) -> Measured:
    """Global random state (torch, numpy, random) is neither read nor changed."""
    untouched = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  # it is what is checked
    results = []
    try:
        for seed in (1, 2):
            torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            before = _global_draws()
            results.append(_gradient(estimator.estimate(setting.make(), setting.make_algorithm(), 4)))
            for library, state in _global_draws().items():
                if state != before[library]:
                    raise NotMet(f"draws from the global random state of {library}: use pudle.streams.generator(seed, name)")
    finally:
        torch.set_rng_state(untouched[0])
        np.random.set_state(untouched[1])  # noqa: NPY002
        random.setstate(untouched[2])
    distance = _distance(results[1], results[0])
    if distance:
        raise NotMet(f"the gradient changes by {distance:.1e} with the global random state", distance, 0.0)
    return None


@_check("global_modes", settings("sparse coding"))
def check_global_modes(estimator: GradientEstimator, setting: Setting) -> Measured:
    """It works under torch.no_grad, and leaves grad mode, default dtype and threads as they were."""
    before = torch.get_num_threads(), torch.get_default_dtype()
    expected = _gradient(estimator.estimate(setting.make(), setting.make_algorithm(), 4))
    for enabled in (False, True):
        with torch.enable_grad() if enabled else torch.no_grad():
            result = _gradient(estimator.estimate(setting.make(), setting.make_algorithm(), 4))
            # A generator that pauses inside a context would leave its grad mode with the caller.
            modes = {torch.is_grad_enabled()}
            for _ in estimator.sweep(setting.make(), setting.make_algorithm(), [2, 4]):
                modes.add(torch.is_grad_enabled())
        if modes != {enabled}:
            raise NotMet("grad mode is switched for the caller: wrap the computation, not a yield, in enable_grad")
        distance = _distance(result, expected)
        if distance:
            reason = f"the gradient changes by {distance:.1e} under torch.no_grad: use torch.enable_grad inside"
            raise NotMet(reason, distance, 0.0)
    if before != (torch.get_num_threads(), torch.get_default_dtype()):
        raise NotMet("the number of threads or the default dtype was changed for the whole process")
    return None


def _global_draws() -> dict[str, str]:
    """The global random states, as texts to compare."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "torch": str(torch.get_rng_state().numpy().tobytes()),
        "numpy": f"{numpy_state['state']['key'].tobytes()!r} {numpy_state['state']['pos']}",
        "random": str(random.getstate()),
    }


# --- depths


@_check("sweep", settings("sparse coding") + settings("ridge", algorithms=("fista",)))
def check_sweep(estimator: GradientEstimator, setting: Setting) -> Measured:
    """`sweep` yields what `estimate` returns at each depth, in the order given."""
    worst = 0.0
    for depths in ([1, 5, 12], [12, 0, 5, 5, 1], [3], []):
        alone = [estimator.estimate(setting.make(), setting.make_algorithm(), depth) for depth in depths]
        swept = list(estimator.sweep(setting.make(), setting.make_algorithm(), depths))
        if len(swept) != len(depths):
            raise NotMet(f"sweep over {depths} yields {len(swept)} estimates where {len(depths)} are due")
        for depth, one, other in zip(depths, alone, swept, strict=True):
            for what, mine, due in (
                ("gradient", _gradient(other), _gradient(one)),
                ("codes", _codes(other), _codes(one)),
            ):
                distance = _distance(mine, due)
                reason = f"the {what} of sweep over {depths} and of estimate at depth {depth} differ by {distance:.1e}"
                worst = max(worst, _hold(distance, SAME, reason)[0])
    return worst, SAME


@_check("depth_zero", GRID)
def check_depth_zero(estimator: GradientEstimator, setting: Setting) -> Measured:
    """With no layer the codes are where they started and the gradient is the direct part."""
    result = estimator.estimate(setting.make(), setting.make_algorithm(), 0)
    codes = setting.model.codes(setting.layers, 0)
    for what, mine, due in (
        ("codes", _codes(result), codes),
        ("gradient", _gradient(result), setting.model.direct(codes)),
    ):
        distance = _distance(mine, due)
        _hold(distance, SAME, f"the {what} at depth 0 differ by {distance:.1e} from what no layer gives")
    return None


@_check("impossible_depth", settings("sparse coding"))
def check_impossible_depth(estimator: GradientEstimator, setting: Setting) -> Measured:
    """A negative or fractional depth is refused, not run as another."""
    for depth in (-1, -20, 2.5):
        for how, call in (
            ("estimate", lambda depth=depth: estimator.estimate(setting.make(), setting.make_algorithm(), depth)),
            ("sweep", lambda depth=depth: list(estimator.sweep(setting.make(), setting.make_algorithm(), [2, depth]))),
        ):
            try:
                call()
            except MissingDependency:
                raise
            except PudleError:
                continue
            except Exception as error:  # noqa: BLE001  # a finding about the code under test
                outcome = f"raised {type(error).__name__}, which says nothing to a user"
            else:
                outcome = "returned"
            raise NotMet(
                f"{how} at depth {depth} {outcome}: refuse it, as pudle.algorithms.unrolling.check_depths does", depth
            )
    return None


@_check("divergent_step", settings("sparse coding"))
def check_divergent_step(estimator: GradientEstimator, setting: Setting) -> Measured:
    """A step above 2/L is refused, as by `Algorithm.step_size`."""
    problem = setting.make()
    algorithm = dataclasses.replace(setting.make_algorithm(), step=2.1 / problem.lipschitz_constant)
    try:
        estimator.estimate(problem, algorithm, 3)
    except MissingDependency:
        raise
    except PudleError:
        return None
    raise NotMet("a step of 2.1/L was run: take the step from algorithm.step_size(problem)", 2.1, 2.0)


# --- nothing silent


@_check("great_depth", settings("tiny"))
def check_great_depth(estimator: GradientEstimator, setting: Setting) -> Measured:
    """At great depth the gradient is finite, or refused with a reason."""
    result = estimator.estimate(setting.make(), setting.make_algorithm(), GREAT)
    _finite("gradient", result.gradient, GREAT)
    _finite("codes", result.codes, GREAT)
    return None


def _where_overflows(estimator: GradientEstimator) -> tuple[Setting, ...]:
    # A gradient of these losses grows with the square of the observations; a heuristic need not.
    return () if getattr(estimator, "computes", None) == "heuristic" else settings("sparse coding")


@_check("overflow", _where_overflows)
def check_overflow(estimator: GradientEstimator, setting: Setting) -> Measured:
    """Observations so large that the gradient exceeds float64 give no finite number, or are refused."""
    huge = setting.make(observations=setting.make().observations * 1e200)  # type: ignore[attr-defined]
    try:
        result = estimator.estimate(huge, setting.make_algorithm(), SHALLOW[-1])
    except MissingDependency:
        raise
    except PudleError:
        return None
    size = float(torch.linalg.norm(result.gradient))
    if np.isfinite(size):
        raise NotMet(f"a gradient that exceeds float64 came back with norm {size:.1e}: never replace NaN or infinity", size)
    return None


@_check("empty_supports", settings("sparse coding", algorithms=PLAIN))
def check_empty_supports(estimator: GradientEstimator, setting: Setting) -> Measured:
    """A penalty that leaves every code zero gives a zero gradient."""
    result = estimator.estimate(setting.make(penalty=1e3), setting.make_algorithm(), SHALLOW[-1])
    size = max(float(result.codes.abs().max()), float(result.gradient.abs().max()))
    if not size == 0:
        raise NotMet(f"all codes are zero, and the gradient or the codes reach {size}", size, 0.0)
    return None


@_check("singular_systems", settings("sparse coding"))
def check_singular_systems(estimator: GradientEstimator, setting: Setting) -> Measured:
    """More active atoms than dimensions give a finite gradient, and a word on the systems solved."""
    result = estimator.estimate(setting.make(penalty=1e-4), setting.make_algorithm(), 1)
    _finite("gradient", result.gradient, 1)
    told = {"condition_number", "largest_relative_residual", "unconverged", "singular"} & set(result.diagnostics)
    if result.diagnostics.get("solves") and not told:
        raise NotMet("diagnostics report solves, but not how singular they were: add condition_number or a residual")
    return None


# --- shared


def _hold(number: float, limit: float, reason: str) -> tuple[float, float]:
    # Not the opposite comparison: NaN must fail.
    if not number < limit:
        raise NotMet(reason, number, limit)
    return number, limit


def _finite(name: str, tensor: torch.Tensor, depth: int) -> None:
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        reason = f"{bad} of {tensor.numel()} entries of the {name} are NaN or infinite at depth {depth}, without a word"
        raise NotMet(reason, bad, 0)


def _hold_gradient(result: Estimate, setting: Setting, depth: int, window: int) -> tuple[float, float]:
    """Hold a gradient to the derivative through the last `window` layers."""
    model, layers = setting.model, setting.layers
    truth = model.unrolled(layers, depth, window)
    mine = _gradient(result)
    # What has a value of zero is held to the scale of what the derivative would be with all layers.
    size = float(np.linalg.norm(truth)) or float(np.linalg.norm(model.unrolled(layers, depth)))
    distance = float(np.linalg.norm(mine - truth)) / size if mine.shape == truth.shape else float("inf")
    limit = QUOTIENT if _is_quotient(result) else EXACT
    if not distance < limit:
        due = "the direct part" if window == 0 else f"the derivative through {window} of {depth} layers"
        raise NotMet(_explain(mine, truth, setting, depth, due), distance, limit)
    return distance, limit


def _is_quotient(result: Estimate) -> bool:
    """Whether an estimate says that it was made from loss values: no difference quotient is better than that."""
    return "evaluations" in result.diagnostics and not result.diagnostics.get("layers_differentiated")


def _window_of(result: Estimate, depth: int) -> int:
    told = result.diagnostics.get("layers_differentiated")
    if not isinstance(told, int) or not 0 <= told <= depth:
        raise NotMet(f"diagnostics report layers_differentiated={told!r} at depth {depth}: tell the window that was used")
    return told


def _gradient(result: Estimate) -> Array:
    return result.gradient.detach().to(device="cpu", dtype=torch.float64).numpy()


def _codes(result: Estimate) -> Array:
    return result.codes.detach().to(device="cpu", dtype=torch.float64).flatten(1).numpy()


def _distance(mine: Array, truth: Array) -> float:
    """Relative to the truth's norm; absolute where the truth is zero, infinite for another shape."""
    if mine.shape != truth.shape:
        return float("inf")
    size = float(np.linalg.norm(truth))
    return float(np.linalg.norm(mine - truth)) / (size or 1.0)


def _options(estimator: GradientEstimator) -> set[str]:
    return {field.name for field in dataclasses.fields(estimator)} if dataclasses.is_dataclass(estimator) else set()


def _tensors(problem: Problem) -> dict[str, torch.Tensor]:
    values = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def _certified(setting: Setting) -> Reference:
    truth = reference(setting.make())
    assert truth.status == "certified", f"{setting}: {truth.reason}"
    return truth


def _error(result: Estimate, truth: Reference) -> float:
    found = score(result, truth)
    if found.status != "ok":
        raise NotMet(found.reason)
    return found.relative_error


def _fault_of_refusal(refusal: UnsupportedProblem) -> str:
    text = str(refusal)
    if len(text.splitlines()) != 1 or len(text.split()) < 5:
        return f"refuses with {text!r}: say in one line what is missing and what to use instead"
    return ""


# --- why a number is off


def _explain(mine: Array, truth: Array, setting: Setting, depth: int, due: str) -> str:
    """Say what a wrong gradient looks like, where it looks like something."""
    where = f"at depth {depth}"
    if mine.shape != truth.shape:
        return f"shape {mine.shape} where {truth.shape} is due"
    if not np.isfinite(mine).all():
        return f"{int((~np.isfinite(mine)).sum())} of {mine.size} entries are NaN or infinite {where}"
    if not truth.any():
        return f"norm {np.linalg.norm(mine):.2g} {where}, where {due} is zero"
    distance = _distance(mine, truth)
    scale = float((mine * truth).sum() / (truth * truth).sum())
    if scale and _explains(_distance(mine / scale, truth), distance):
        return f"{scale:.6g} times {due} {where}{_factor(scale, setting.model)}"
    for looks, candidate in _look_alikes(setting, depth):
        if _explains(_distance(mine, candidate), distance):
            return f"{looks} {where}, instead of {due}"
    if distance < ROUNDED:
        return f"{due} to {distance:.0e} only {where}: is float32, or a difference quotient, in its path?"
    cosine = scale * float(np.linalg.norm(truth)) / (float(np.linalg.norm(mine)) or 1.0)
    return f"off from {due} by {distance:.2g} of its norm {where} (cosine {cosine:.4f})"


def _explains(left: float, distance: float) -> bool:
    """Whether an explanation leaves next to nothing of a distance from the truth."""
    return left < min(ROUNDED, 0.01 * distance)


def _factor(scale: float, model: Model) -> str:
    """Name a factor that comes from a sum over samples."""
    n = len(model.observations)
    named = {-1.0: "negated", float(n): f"n = {n}: a sum over samples, not a mean", 1 / n: f"1/n, n = {n}"}
    named[0.5], named[2.0] = "a factor 1/2 too many", "a factor 1/2 left out"
    return next((f" ({text})" for value, text in named.items() if abs(scale / value - 1) < ROUNDED), "")


def _power(ratio: float, estimator: GradientEstimator) -> str:
    """Name the option whose power a ratio is near, as that of a smoothing width that was not divided out."""
    for name in sorted(_options(estimator)):
        value = getattr(estimator, name)
        if isinstance(value, (int, float)) and value > 0 and value != 1:
            for power in (2, 1, -1, -2):
                if abs(ratio / value**power - 1) < 0.3:
                    return f", near {name}^{power} = {value**power:.3g}"
    return ""


def _look_alikes(setting: Setting, depth: int) -> Iterator[tuple[str, Array]]:
    """Yield gradients that a wrong one may turn out to be, each with its name, the cheap ones first."""
    model, layers = setting.model, setting.layers
    codes, full = model.codes(layers, depth), model.unrolled(layers, depth)
    direct, implicit = model.direct(codes), model.implicit(codes)
    yield "the direct part alone, the path through the codes dropped", direct
    yield "the derivative through all layers", full
    yield "the path through the codes with the wrong sign", 2 * direct - full
    yield "the implicit gradient on the support of the last codes", implicit
    yield "the correction of the direct part with the wrong sign", 2 * direct - implicit
    if full.ndim == 2 and full.shape[0] == full.shape[1]:
        yield "transposed", full.T
    yield (
        "the derivative at a step from the Frobenius norm, not the largest eigenvalue",
        model.unrolled(dataclasses.replace(layers, step=1 / model.frobenius), depth),
    )
    if depth:
        yield "the implicit gradient at the codes of an earlier layer", model.implicit(model.codes(layers, depth - 1))
    if depth < SETTLED:
        for window in range(depth - 1, 0, -1):
            yield f"the derivative through the last {window} layers alone", model.unrolled(layers, depth, window)


def _explain_codes(mine: Array, setting: Setting, depth: int) -> str:
    model, layers = setting.model, setting.layers
    truth = model.codes(layers, depth)
    if mine.shape != truth.shape:
        return f"codes of shape {mine.shape} where {truth.shape} is due"
    distance = _distance(mine, truth)
    frobenius = dataclasses.replace(layers, step=1 / model.frobenius)
    candidates = {
        f"those of layer {depth - 1}": (layers, depth - 1),
        f"those of layer {depth + 1}": (layers, depth + 1),
        "those of a step from the Frobenius norm, not the largest eigenvalue": (frobenius, depth),
        "those of plain layers, where the algorithm is accelerated": (
            dataclasses.replace(layers, accelerated=False),
            depth,
        ),
        "those from a zero start, the warm start ignored": (dataclasses.replace(layers, initial=None), depth),
    }
    for text, (other, at) in candidates.items():
        if _explains(_distance(mine, model.codes(other, at)), distance):
            return f"codes at depth {depth} are {text}"
    if distance < ROUNDED:
        return f"codes at depth {depth} are right to {distance:.0e} only: is float32 in their path?"
    return f"codes at depth {depth} are off by {distance:.1e} of their norm"
