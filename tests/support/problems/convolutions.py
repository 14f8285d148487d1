"""Convolutional problems, and the convolution written out as a matrix."""

import dataclasses
import functools

import numpy as np
import torch

import pudle


@functools.cache
def filter_entries(image, filters, stride):
    """Index of the filter entry at each place of the matrix, -1 for none, built pixel by pixel from
    the definition.
    """
    channels, height, width = image
    p, _, tall, wide = filters
    rows, columns = -(-(height - tall) // stride) + 1, -(-(width - wide) // stride) + 1
    top = -(-((rows - 1) * stride + tall - height) // 2)
    left = -(-((columns - 1) * stride + wide - width) // 2)
    entries = np.full((channels, height, width, p, rows, columns), -1)
    for j, c, u, v in np.ndindex(filters):
        for a, b in np.ndindex(rows, columns):
            y, x = a * stride + u - top, b * stride + v - left
            if 0 <= y < height and 0 <= x < width:
                entries[c, y, x, j, a, b] = np.ravel_multi_index((j, c, u, v), filters)
    return entries.reshape(channels * height * width, -1)


def entries_of(problem):
    """Return the entries for the images and the filters of a problem."""
    shapes = problem.observations.shape[1:], problem.dictionary.shape
    return filter_entries(*map(tuple, shapes), problem.stride)


def dense(filters, entries):
    return np.where(entries >= 0, filters.ravel()[entries], 0)


def chain(gradient, entries, shape):
    """Gradient in the filters, from the gradient in the matrix."""
    gradient, used = np.asarray(gradient), entries >= 0
    total = np.zeros(np.prod(shape), gradient.dtype)
    np.add.at(total, entries[used], gradient[used])
    return total.reshape(shape)


def convolutional(
    loss="lasso", image=(2, 9, 12), filters=(3, 2, 3, 4), stride=2, penalty=0.15, n=3, **fields
):
    """By default a geometry with several channels, rectangles, a stride that does not divide the
    size, and a surplus to crop.
    """
    random = np.random.default_rng([0, 577])
    d = random.standard_normal(filters)
    d /= np.sqrt(np.square(d).sum((1, 2, 3), keepdims=True))
    matrix = dense(d, filter_entries(image, filters, stride))
    codes = random.uniform(1, 2, (n, matrix.shape[1])) * (random.random((n, matrix.shape[1])) < 0.1)
    x = codes @ matrix.T + 0.05 * random.standard_normal((n, len(matrix)))
    return pudle.ConvolutionalSparseCoding(
        observations=x.reshape(n, *image),
        dictionary=d,
        penalty=penalty,
        stride=stride,
        loss=loss,
        **fields,
    )


def dense_twin(problem):
    """The same problem with a dense dictionary, and the filter entries in it."""
    entries = entries_of(problem)
    twin = pudle.SparseCoding(
        observations=problem.observations.flatten(1),
        dictionary=torch.as_tensor(dense(problem.dictionary.numpy(), entries)),
        penalty=problem.penalty,
        loss=problem.loss,
        nonnegative=problem.nonnegative,
        l2_penalty=problem.l2_penalty,
    )
    return twin, entries


#: One for each filter.
PENALTIES = torch.tensor([0.1, 0.2, 0.15], dtype=torch.float64)


def replaced(problem, kind, **changes):
    """Return a problem of another class with the same fields but for the changes."""
    fields = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}
    return kind(**fields | changes)


def supervised(loss="lasso", **fields):
    """The same with targets that are not the observations."""
    problem = convolutional(loss, **fields)
    noise = np.random.default_rng(11).standard_normal(problem.observations.shape)
    return dataclasses.replace(problem, targets=problem.observations + 0.3 * torch.as_tensor(noise))


def thresholded(loss="reconstruction"):
    return replaced(supervised(loss), pudle.ThresholdedConvolutionalSparseCoding, penalty=PENALTIES)
