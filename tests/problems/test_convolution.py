"""The convolution for float32 on the CPU, against torch's convolutions and differences, and the
bound on its norm.
"""

import pytest
import torch
from support.oracles import tolerances
from support.oracles.comparisons import relative
from torch.nn.functional import conv2d, conv_transpose2d

import pudle
from pudle.problems.convolutional import correlate, synthesize

#: Images (n, c, H, W), filters (p, c, k, k) and stride, with several channels, rectangles and sizes
#: that leave a surplus.
SHAPES = [
    ((1, 1, 34, 41), (5, 1, 9, 9), 4),
    ((2, 3, 13, 17), (4, 3, 4, 5), 3),
    ((3, 2, 9, 12), (3, 2, 3, 4), 2),
    ((2, 1, 12, 9), (2, 1, 3, 3), 3),
    ((1, 2, 7, 8), (2, 2, 2, 3), 1),
    ((2, 1, 5, 5), (3, 1, 1, 1), 1),
]


def draw(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).float()


def problem_of(shape, **fields):
    images, filters, stride = shape
    dictionary = draw(filters, 1)
    dictionary /= dictionary.flatten(1).norm(dim=1)[:, None, None, None]
    return pudle.ConvolutionalSparseCoding(
        observations=draw(images, 0),
        dictionary=dictionary,
        penalty=0.1,
        stride=stride,
        **fields,
    )


def gradients_of(function):
    """Return the gradients of the sum of cubes of a function's values, in all of its arguments."""
    return torch.func.grad(lambda *arguments: function(*arguments).pow(3).sum(), argnums=(0, 1, 2))


def along(function):
    """Return the derivative of a function along a fixed direction, in forward mode."""
    return lambda *at: torch.func.jvp(
        function, at, tuple(draw(each.shape, 5).to(each) for each in at)
    )[1]


def batched(function):
    """Return a function's values at two code tensors, batched by vmap."""
    return lambda codes, *others: torch.vmap(lambda each: function(each, *others))(
        torch.stack([codes, -2 * codes])
    )


#: Values and derivatives of a function, in the ways that estimators use.
TRANSFORMATIONS = (
    lambda function: function,
    batched,
    along,
    gradients_of,
    lambda function: along(gradients_of(function)),
    lambda function: batched(lambda *arguments: gradients_of(function)(*arguments)[0]),
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestMaps:
    def test_layers_are_those_of_torch(self, shape):
        """Values, first derivatives in all tensors, and products with a Hessian, in float32 against
        autograd over two convolutions in float64.
        """
        problem = problem_of(shape)
        geometry = problem.geometry
        options = {"stride": geometry.stride, "padding": geometry.padding}
        singles = (
            draw(problem.code_shape, 2),
            problem.dictionary,
            problem.observations,
        )

        def plain(codes, filters, images):
            synthesis = conv_transpose2d(codes, filters, output_padding=geometry.extra, **options)
            return conv2d(synthesis - images, filters, **options)

        def mine(codes, filters, images):
            return correlate(geometry, synthesize(geometry, codes, filters) - images, filters)

        for transformed in TRANSFORMATIONS:
            results = transformed(mine)(*singles)
            expected = transformed(plain)(*(tensor.double() for tensor in singles))
            if isinstance(expected, torch.Tensor):
                results, expected = [results], [expected]
            for result, truth in zip(results, expected, strict=True):
                assert relative(result, truth) <= tolerances.SINGLE_PRECISION

    def test_bound_is_above_the_lipschitz_constant(self, shape):
        problem = problem_of(shape, l2_penalty=0.5)
        # Without overlap of the filters the two are equal, up to rounding.
        assert (
            problem.lipschitz_constant * (1 - 1e-12)
            <= problem.lipschitz_bound
            <= 2 * problem.lipschitz_constant
        )


def test_bound_holds_between_the_sampled_frequencies():
    """Two filters that form a wave have their largest gain at the frequency of that wave."""
    for phase in torch.linspace(0, torch.pi, 23).tolist():
        wave = torch.cos(phase * torch.arange(4.0))[None, None, None, :]
        filters = torch.cat([wave, torch.sin(phase * torch.arange(4.0))[None, None, None, :]])
        problem = pudle.ConvolutionalSparseCoding(
            observations=torch.ones(1, 1, 1, 400) + wave.sum(), dictionary=filters, penalty=1.0
        )
        assert (
            problem.lipschitz_constant
            <= problem.lipschitz_bound
            <= 1.2 * problem.lipschitz_constant
        )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_near_the_largest_is_accepted_without_the_lipschitz_constant(shape):
    """The Lanczos iteration takes ten seconds for a photograph, whose eigenvalues lie close
    together.
    """
    images, filters, stride = shape
    large = (1, images[1], 90, 90), filters, stride
    constant = problem_of(large, l2_penalty=0.5).lipschitz_constant
    problem = problem_of(large, l2_penalty=0.5)
    assert problem.is_lipschitz(1.04 * constant)
    assert not problem.is_lipschitz(0.98 * constant)
    assert not problem.is_lipschitz(0.4)
    assert "lipschitz_constant" not in vars(problem)
