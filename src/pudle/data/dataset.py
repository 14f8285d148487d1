"""What a dataset is: seeded draws that become a problem, or a user's function that makes it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ..declared import check_declared, with_values
from ..errors import InvalidArgument, SpecError, UnsupportedProblem
from ..files import state_of
from ..names import is_concrete, path_options
from ..problems import (
    ConvolutionalSparseCoding,
    Problem,
    SparseCoding,
    ThresholdedConvolutionalSparseCoding,
)
from ..streams import generator
from ..validation import as_tensor, check_choice

#: Numbers in double precision.
FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
#: Makes an array a tensor of the dtype and on the device that a problem is asked for.
ToTensor = Callable[[FloatArray], Tensor]
#: Arguments of a function that makes a problem which are no options: a run chooses them.
CHOSEN = ("seed", "loss", "dtype", "device")


#: Metadata of a field whose option is a path, which `pudle run` stores as seen from the working
#: folder.
PATH = {"path": True}


def to_tensor(dtype: torch.dtype, device: str | torch.device) -> ToTensor:
    """Return a function that makes an array a tensor."""
    # The array's own memory, whose alignment decides about the last digits of products.
    return lambda array: as_tensor(array).to(device, dtype)


class Dataset(ABC):
    """A seeded source of one problem.

    A concrete dataset sets `name`, keeps its options (among them `seed`) as frozen dataclass
    fields, and implements `problem`. A dataset that consists of observations and a dictionary
    derives from `SparseCodingDataset` instead.

    Attributes
    ----------
    name : str
        How specs, tables and files call it.
    references : tuple of str
        The publications it comes from.
    losses : tuple of str
        The outer losses that its problems have.
    seed : int
    """

    name: ClassVar[str]
    references: ClassVar[tuple[str, ...]] = ()
    losses: ClassVar[tuple[str, ...]] = ("lasso", "reconstruction")
    seed: int = 0

    @abstractmethod
    def problem(
        self,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Problem:
        """Draw the problem; the same seed gives the same problem, bit for bit."""

    def fingerprint(self) -> str:
        """Return a text of all that the draw depends on besides the fields and the source code: by
        default, the state of the files that options name.
        """
        return " ".join(map(state_of, self.paths().values()))

    def paths(self) -> dict[str, Path]:
        """Return the files and folders that options name, by option; those that are None are left
        out.

        One that does not exist is returned too.

        Raises
        ------
        InvalidArgument
            If it is a pipe, a socket or a device.
        """
        paths = {
            name: Path(path).expanduser()
            for name in path_options(self)
            if (path := getattr(self, name)) is not None
        }
        for name, path in paths.items():
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise InvalidArgument(
                    f"{name}={str(path)!r} is no regular file but a pipe, a socket or a device:"
                    " give a file or a folder"
                )
        return paths

    def reseeded(self, seed: int) -> Self:
        """Return the dataset with another seed."""
        return with_values(self, seed=seed)

    def generator(self, purpose: str = "") -> Generator:
        """Return a new random generator that depends only on the seed, this dataset's name and the
        purpose: each call begins the stream anew.
        """
        return generator(self.seed, f"dataset {self.name} {purpose}".strip())

    @staticmethod
    @functools.cache
    def of_problem(make: Callable[..., object]) -> type[Dataset]:
        """Return the class of datasets whose problem a function or a class makes; its arguments are
        the options.

        An argument `seed`, `loss`, `dtype` or `device` gets what a run asks for. The losses are
        those of an annotation ``Literal["lasso", "reconstruction"]``. An argument annotated as
        ``Path`` names a file or a folder, whose content the results depend on. Arguments whose
        default is no literal keep it.

        The function is called when a dataset draws. The same function gives the same class.

        Raises
        ------
        SpecError
            If it is a class with an argument that has no default.
        """
        parameters = _parameters(make)
        losses = _losses(parameters.get("loss"))

        def problem(
            self: Dataset,
            loss: str = "",
            *,
            dtype: torch.dtype = torch.float64,
            device: str | torch.device = "cpu",
        ) -> Problem:
            """Call the function with the options that it takes, and return its problem: with the
            first loss where none is given.
            """
            chosen = {"loss": loss or losses[0], "dtype": dtype, "device": device}
            options = vars(self) | self.paths() | chosen
            problem = make(**{name: options[name] for name in parameters.keys() & options.keys()})
            return _check_problem_made(self.name, problem, dtype, torch.device(device))

        name = make.__name__
        body = {"name": name, "losses": losses, "problem": problem, "__doc__": make.__doc__}
        dataset_class = dataclasses.make_dataclass(
            name,
            [("seed", int, 0), *_options(make, parameters)],
            bases=(Dataset,),
            namespace=body,
            frozen=True,
            kw_only=True,
        )
        # Python 3.12 and later put the module there that calls.
        dataset_class.__module__ = make.__module__
        return dataset_class

    @staticmethod
    def classes_from(defined: Mapping[str, object], name: str) -> list[type[Dataset]]:
        """Return the datasets of what a file defines, by name: that of the function or class `name`
        that makes a problem.

        Without one, it is that of the function ``problem`` or those of the classes of problems
        whose fields have defaults.
        """
        makers = {
            key: value
            for key, value in defined.items()
            if isinstance(value, FunctionType)
            or (isinstance(value, type) and is_concrete(value, Problem))
        }
        if make := makers.get(name) or makers.get("problem"):
            return [Dataset.of_problem(make)]
        classes = []
        for cls in makers.values():
            if isinstance(cls, type):
                with contextlib.suppress(SpecError):
                    classes.append(Dataset.of_problem(cls))
        return classes


def _parameters(make: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function or a class, with annotations as types where they can be
    read here.
    """
    try:
        return inspect.signature(make, eval_str=True).parameters
    except NameError:
        # An annotation that only type checkers can read.
        return inspect.signature(make).parameters


def _losses(loss: inspect.Parameter | None) -> tuple[str, ...]:
    """Return the losses that an argument `loss` states, by its annotation or its default; ``own``
    where there is none.
    """
    annotation, default = (loss.annotation, loss.default) if loss else (object, None)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return (default,) if isinstance(default, str) else ("own",)


def _options(
    make: Callable[..., object], parameters: Mapping[str, inspect.Parameter]
) -> Iterator[tuple[str, object, object]]:
    """Yield the dataclass fields of the arguments that a spec can give: name, annotation, field.

    Arguments that a run chooses, and those whose default is no literal and no path, are left out. A
    class with an argument that has no default raises SpecError.
    """
    for name, parameter in parameters.items():
        default: object = parameter.default
        if name in CHOSEN:
            continue
        if default is parameter.empty:
            if isinstance(make, type):
                raise SpecError(
                    f"{make.__name__} needs {name}: give it a default, or write a function"
                    " `problem` that makes it"
                )
            default = dataclasses.MISSING
        elif isinstance(default, Path):
            default = str(default)
        elif not isinstance(default, (int, float, str, tuple, type(None))):
            continue
        metadata = {"path": parameter.annotation in (Path, Path | None)}
        field = dataclasses.field(default=default, metadata=metadata)
        yield name, parameter.annotation, field


def _check_problem_made(
    name: str, problem: object, dtype: torch.dtype, device: torch.device
) -> Problem:
    """Return the problem that a user's function made.

    Raises
    ------
    InvalidArgument
        If it is none, or its class has options and is no dataclass.
    UnsupportedProblem
        If it has another dtype or lies on another device than is asked for.
    """
    if not isinstance(problem, Problem):
        raise InvalidArgument(
            f"{name} gives no problem but {type(problem).__name__}: return one, such as"
            " pudle.FixedPoint(...)"
        )
    check_declared(type(problem))
    for option, actual, requested in (
        ("dtype", problem.theta.dtype, dtype),
        ("device", problem.theta.device.type, device.type),
    ):
        if actual != requested:
            raise UnsupportedProblem(
                f"{name} gives a problem of {actual}, not of {requested}: let it take {option}"
            )
    return problem


class ArraysDataset(Dataset):
    """A dataset that draws arrays and makes its problem of them as tensors."""

    @abstractmethod
    def make(self, loss: str, tensor: ToTensor) -> Problem:
        """Draw arrays in float64 and return their problem; `tensor` makes an array a tensor."""

    def problem(
        self,
        loss: str = "",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
        **options: Any,
    ) -> Problem:
        """Draw the problem; `options` are those of `make`. Without a loss it is the first of
        `losses`, and one that is not among them is InvalidArgument.
        """
        loss = check_choice("loss", loss or self.losses[0], self.losses)
        return self.make(loss, to_tensor(dtype, device), **options)


@dataclass(frozen=True, eq=False)
class Draw:
    """The arrays of one sparse coding problem, in float64.

    The shapes are those of a dense dictionary; `ConvolutionalDataset.draw` gives those of a
    convolutional one.

    Attributes
    ----------
    observations : array, shape (n, m)
    dictionary : array, shape (m, p)
        Where the gradient is taken.
    generating_dictionary, generating_codes : array, shapes (m, p) and (n, p), or None
        The dictionary and the codes that generated the observations, where they are known.
    """

    observations: FloatArray
    dictionary: FloatArray
    generating_dictionary: FloatArray | None = None
    generating_codes: FloatArray | None = None
    #: What an outer loss compares with, if not the observations.
    targets: FloatArray | None = None

    def tensors(self, tensor: ToTensor) -> dict[str, Any]:
        """Return the arrays that there are as tensors, by name."""
        return {name: tensor(array) for name, array in vars(self).items() if array is not None}


class SparseCodingDataset(ArraysDataset):
    """A dataset for `pudle.SparseCoding`: it implements `draw`, has a `penalty` and, for an elastic
    net, an `l2_penalty`.
    """

    penalty: float
    l2_penalty: float = 0.0

    @abstractmethod
    def draw(self) -> Draw:
        """Draw the observations and the dictionary."""

    def samples(
        self, generating_dictionary: FloatArray | None, n_samples: int, random: Generator
    ) -> tuple[FloatArray, FloatArray | None]:
        """Draw other samples, for learning from fresh ones in every step.

        Return observations, shape (n_samples, m), and the codes that generated them from the
        generating dictionary, shape (m, p): shape (n_samples, p), or None if they are not known. A
        dataset that holds a fixed set of samples in memory raises InvalidArgument.
        """
        raise InvalidArgument(
            f"dataset {self.name} has no fresh samples to draw: learn from its own samples, or use"
            " sparse_gaussian, bernoulli_gaussian or memory_mapped"
        )

    def make(self, loss: str, tensor: ToTensor) -> Problem:
        tensors = self.draw().tensors(tensor)
        return SparseCoding(penalty=self.penalty, l2_penalty=self.l2_penalty, loss=loss, **tensors)


class ConvolutionalDataset(ArraysDataset):
    """A dataset for `pudle.ConvolutionalSparseCoding`: it implements `draw` and has a `penalty` and
    a `stride`.
    """

    penalty: float
    stride: int
    nonnegative: bool = False
    #: Whether every filter has a penalty of its own, which is learned with it.
    learned_penalties: bool = False
    #: Which sizes are at most others.
    fitting: ClassVar = {"kernel": "size", "stride": "kernel"}

    @abstractmethod
    def draw(self) -> Draw:
        """Draw images (n, c, H, W), filters (p, c, k, k) and, where they are known, codes (n, p, h,
        w).
        """

    def make(self, loss: str, tensor: ToTensor, **options: Any) -> Problem:
        """Draw with some options, those of `draw`, and return the problem: one with learned
        penalties if the dataset says so.
        """
        kind = ConvolutionalSparseCoding
        if self.learned_penalties:
            kind = ThresholdedConvolutionalSparseCoding
        return kind(
            penalty=self.penalty,
            stride=self.stride,
            nonnegative=self.nonnegative,
            loss=loss,
            **self.draw(**options).tensors(tensor),
        )
