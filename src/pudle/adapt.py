"""Functions of other libraries as functions of tensors with a gradient, such as `pudle.audit`
takes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import InvalidArgument, first_line
from .peers import require, run_jax

__all__ = ["from_jax", "from_numpy"]

#: A function of arrays or of tensors.
Function = Callable[..., Any]


def from_jax(function: Function) -> Function:
    r"""Return a JAX function as a function of tensors; its gradient is that of ``jax.vjp``, with
    the function's own rule (``jax.custom_vjp``, an implicit solver) where it has one.

    It computes on the CPU and in the precision of its inputs: of float64 ones in float64, whatever
    ``jax_enable_x64`` says. Arrays that the function holds are as precise as they were made. It is
    compiled when it is first called with inputs of a shape and precision.

    Parameters
    ----------
    function : callable
        ``function(*arrays)`` returns an array or a tuple of arrays, of real numbers, in operations
        that ``jax.jit`` compiles.

    Returns
    -------
    callable
        Takes tensors of real numbers; can be differentiated as often as the function can.

    Raises
    ------
    MissingDependency
        If jax is not installed.
    InvalidArgument
        When it is called, if the function raises an error.
    """
    return _on_tensors(require("jax").jit(function))


def _on_tensors(function: Function) -> Function:
    """Return a compiled JAX function as one of tensors.

    What it raises becomes InvalidArgument. Its gradient is such a function too, so that it can be
    differentiated again.
    """
    jax = require("jax")

    def flat(*arrays: Any) -> Any:
        results = function(*arrays)
        return results if isinstance(results, tuple) else (results,)

    def run(*inputs: Tensor) -> Any:
        """Call the compiled function, and return its results as tensors; its errors become
        InvalidArgument.
        """
        try:
            return tuple(run_jax(flat, *inputs))
        except Exception as error:
            raise InvalidArgument(
                f"the JAX function, or its gradient, fails in {inputs[0].dtype}"
                f" ({type(error).__name__}: {first_line(error)}): make the arrays that it holds in"
                " the dtype of its inputs, and give what else it needs"
            ) from error

    def pull_back(number: int, *tensors: Tensor) -> Any:
        """Return the function's vector-Jacobian product, itself a function of tensors that can be
        differentiated.
        """

        def pull(*arrays: Any) -> Any:
            return jax.vjp(flat, *arrays[:number])[1](arrays[number:])

        return _on_tensors(pull)(*tensors)

    return _layer(run, pull_back)


def from_numpy(function: Function, gradient: Function) -> Function:
    r"""Return a numpy function with a hand-written gradient as a function of tensors.

    Tensors lie on the CPU. Results are copies, in the dtype that the function returns.

    Parameters
    ----------
    function : callable
        ``function(*arrays)`` returns an array, a number or a tuple of them.
    gradient : callable
        ``gradient(*weights, *arrays)`` with one array of weights w for each output y, of its shape,
        returns what is to reach each input x, of its shape: :math:`(\partial_x y)^\top w`. Of a
        function with the gradient g and one number for output it is ``lambda w, x: w * g(x)``; with
        the Jacobian J, ``lambda w, x: J(x).T @ w``.

    Returns
    -------
    callable
        Takes tensors of real numbers; its gradient is not differentiated again.
    """

    def call_numpy(function: Function, *tensors: Tensor) -> Any:
        results = function(*(tensor.detach().numpy() for tensor in tensors))
        results = results if isinstance(results, tuple) else (results,)
        return tuple(torch.as_tensor(np.array(result)) for result in results)

    @once_differentiable
    def pull_back(n_inputs: int, *tensors: Tensor) -> Any:
        return call_numpy(gradient, *tensors[n_inputs:], *tensors[:n_inputs])

    return _layer(lambda *inputs: call_numpy(function, *inputs), pull_back)


def _layer(run: Function, pull_back: Function) -> Function:
    """Return a layer with the results of `run`, alone where there is one, and the gradient
    ``pull_back(number of inputs, *inputs, *weights of the results)``.

    `run` returns a tuple of tensors, and is not recorded; `pull_back` returns one tensor for each
    input.
    """

    class Foreign(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            return run(*inputs)

        @staticmethod
        def backward(ctx: Any, *weights: Tensor) -> Any:
            inputs = ctx.saved_tensors
            return pull_back(len(inputs), *inputs, *weights)

    def layer(*inputs: Tensor) -> Any:
        results = apply(*inputs)
        return results[0] if len(results) == 1 else results

    # A function of torch's without types.
    apply: Function = Foreign.apply
    return layer
