"""Pictures of one training: its curve, its atoms before and after, and images before and after
denoising.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from skimage.util import montage

from ..files import write_atomically
from .matching import match_atoms

#: Columns of a history that are drawn, with their labels, and whether on a log scale.
CURVES = {
    "relative_error": ("relative error of the dictionary", True),
    "psnr": ("PSNR on validation images (dB)", False),
    "loss": ("loss", False),
}
#: Side of a panel, in inches, and its resolution.
SIDE, DPI = 3.6, 150
#: Greatest number of atoms in a picture.
MOST_ATOMS = 256


def draw_curve(path: Path, history: pd.DataFrame) -> None:
    """Draw what a history says of error, PSNR and loss against steps; columns without two numbers
    are left out.
    """
    shown = [name for name in CURVES if name in history and history[name].count() > 1]
    if not shown:
        return
    with _panels(path, len(shown), wide=1.3) as panels:
        for name, at in zip(shown, panels, strict=True):
            label, log = CURVES[name]
            sns.lineplot(history, x="step", y=name, ax=at, errorbar=None)
            at.set(
                ylabel=label,
                yscale="log" if log and (history[name].dropna() > 0).all() else "linear",
            )
            sns.despine(ax=at)


def draw_atoms(
    path: Path, before: np.ndarray, after: np.ndarray, generating: np.ndarray | None = None
) -> None:
    """Draw the atoms at the start and at the end.

    Atoms are columns of shape (m, p), or filters (p, c, k, k), which are drawn as images, as are
    columns of m = k^2 entries; other columns are drawn as a matrix. With a `generating` dictionary,
    the distance of each of its atoms to the one matched to it is drawn instead.
    """
    pair = {"at the start": before, "at the end": after}
    if generating is None:
        number = before.shape[1] if before.ndim == 2 else len(before)
        which = "atoms" if number <= MOST_ATOMS else f"{MOST_ATOMS} of {number} atoms"
        draw_images(path, {f"{which} {name}": _sheet(atoms) for name, atoms in pair.items()})
        return
    with _panels(path, 1, wide=1.3) as (at,):
        for name, atoms in pair.items():
            distances = _distances(atoms, generating)
            sns.lineplot(
                x=np.arange(1, len(distances) + 1), y=distances, ax=at, label=name, errorbar=None
            )
        at.set(
            xlabel="atoms, nearest first", ylabel="distance to the generating atom", yscale="log"
        )
        sns.despine(ax=at)


def draw_images(path: Path, images: Mapping[str, np.ndarray]) -> None:
    """Draw gray images, values in [0, 1], side by side with their names above."""
    with _panels(path, len(images)) as panels:
        for (name, image), at in zip(images.items(), panels, strict=True):
            at.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="none")
            at.set_title(name, wrap=True, fontsize=9, parse_math=False)
            at.set_axis_off()


def filter_sheet(filters: np.ndarray) -> np.ndarray:
    """Return filters (p, k, k) as one gray image, each scaled to its own greatest magnitude."""
    scales = np.abs(filters).max((1, 2), keepdims=True)
    tiles = 0.5 + 0.5 * np.divide(filters, scales, out=np.zeros_like(filters), where=scales > 0)
    return montage(tiles[:MOST_ATOMS], fill=1.0, padding_width=1)


def _sheet(atoms: np.ndarray) -> np.ndarray:
    if atoms.ndim == 4:
        return filter_sheet(atoms.mean(1))
    side = math.isqrt(len(atoms))
    if side**2 == len(atoms):
        return filter_sheet(atoms.T.reshape(-1, side, side))
    return 0.5 + 0.5 * atoms / (np.abs(atoms).max() or 1.0)


def _distances(atoms: np.ndarray, generating: np.ndarray) -> np.ndarray:
    """Return the distances of generating atoms to those matched to them, ascending."""
    learned, known = (
        each if each.ndim == 2 else each.reshape(len(each), -1).T for each in (atoms, generating)
    )
    matching = match_atoms(learned, known)
    return np.sort(np.linalg.norm(learned[:, matching.places] * matching.signs - known, axis=0))


@contextlib.contextmanager
def _panels(path: Path, columns: int, wide: float = 1.0) -> Iterator[Sequence[Any]]:
    """Yield axes side by side, and save their figure to a PNG file at the end."""
    with mpl.rc_context({**sns.axes_style("ticks"), "axes.grid": wide > 1, "grid.alpha": 0.3}):
        figure = Figure(figsize=(SIDE * wide * columns, SIDE), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.subplots(1, columns, squeeze=False)[0]
        drawn = io.BytesIO()
        # Without what would make the same picture differ from one run to the next.
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, drawn.getvalue())
