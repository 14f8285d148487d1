"""kornia: warps and what they are computed from."""

import torch
from census import Layer, drawn
from kornia.geometry import (
    find_homography_dlt,
    get_perspective_transform,
    remap,
    warp_perspective,
)

IMAGE = drawn(1, 1, 5, 6, seed=1)
CORNERS = torch.tensor([[[0.1, 0.2], [4.0, 0.3], [4.2, 3.9], [0.2, 3.7]]]).double()
HOMOGRAPHY = torch.tensor([[[1.1, 0.1, 0.3], [-0.05, 0.9, 0.2], [0.01, -0.02, 1.0]]]).double()


def warp() -> Layer:
    """`warp_perspective`, in image and homography."""
    return Layer(lambda image, matrix: warp_perspective(image, matrix, (4, 5)), [IMAGE, HOMOGRAPHY])


def mapped() -> Layer:
    """`remap`, in image and both maps."""
    x, y = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), indexing="xy")
    maps = (x + 0.3 * drawn(1, 3, 4, seed=6), y + 0.3 * drawn(1, 3, 4, seed=7))
    return Layer(lambda image, x, y: remap(image, x, y, align_corners=True), [IMAGE, *maps])


def corners() -> Layer:
    """`get_perspective_transform` of four points, in both sets."""
    return Layer(get_perspective_transform, [CORNERS, CORNERS + drawn(1, 4, 2, seed=3) / 2])


def fitted() -> Layer:
    """`find_homography_dlt` of eight points, a singular vector, in both sets and the weights."""
    points = 3 * drawn(1, 8, 2, seed=4)
    images = points @ HOMOGRAPHY[0, :2, :2].T + 0.3 * drawn(1, 8, 2, seed=5)
    return Layer(find_homography_dlt, [points, images, drawn(1, 8, seed=9).abs()])


LAYERS = [warp, mapped, corners, fitted]
