"""Faster ways to do what a function does, found by the type of the problem that it is given.

A function that is dispatched knows none of them: a module that has one adds it to `faster`.
"""

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Dispatched(Generic[P, R]):
    """A function whose first argument is a problem, and faster ways for some types of problems.

    A faster way that returns NotImplemented declines, and the function itself is called. Subclasses
    of a type take the function itself, because what they override is not known.
    """

    def __init__(self, plain: Callable[P, R]) -> None:
        self.plain = plain
        #: Faster ways, by the type of the problem.
        self.faster: dict[type, Callable[..., Any]] = {}
        functools.update_wrapper(self, plain)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if faster := self.faster.get(type(args[0])):
            result: R = faster(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return self.plain(*args, **kwargs)
