"""
An estimator in 30 lines
========================

From an idea to a row in the table. The idea: layers converge as a geometric
series, so that the last three tell where the codes are heading. Jump there,
and take the gradient with the codes held constant. This is Aitken's
extrapolation, and it needs no backward pass.
"""

# %%
# Write it
# --------
# An estimator is a frozen dataclass with one method. Its options are fields,
# ``computes`` is its claim, ``consistent_for`` names the losses for which the
# error vanishes with depth, and ``needs`` what it can treat: elsewhere the
# jump may lead nowhere, and the user is told what to take ``instead``.

from dataclasses import dataclass

import torch

import pudle
from pudle.algorithms.requirements import DENSE_DICTIONARY
from pudle.algorithms.unrolling import check_depths, direct_gradients


@dataclass(frozen=True)
class Extrapolated(pudle.GradientEstimator):
    """Extrapolate the codes of each sample, and hold them constant."""

    largest: float = 0.99

    name = "extrapolated"
    computes = "approximate"
    consistent_for = ("lasso",)
    needs = (DENSE_DICTIONARY,)
    instead = "backprop"

    def estimate(self, problem, algorithm, depth):
        (depth,) = check_depths([depth])
        layers = [max(depth - back, 0) for back in (2, 1, 0)]
        with torch.no_grad():
            states = algorithm.run(problem, depth, keep=layers).states
        first, second, codes = (states[layer].codes for layer in layers)
        before, last = second - first, codes - second
        ratio = (last * before).sum(1) / before.square().sum(1)
        ratio = ratio.nan_to_num(0).clamp(0, self.largest)[:, None]
        heading = codes + last * ratio / (1 - ratio)
        gradient, _ = direct_gradients(problem, heading)
        return pudle.Estimate(gradient, codes)


# %%
# In a file of its own, say ``extrapolated.py``, the command line takes it as
# it is:
#
# .. code-block:: console
#
#     $ pudle check extrapolated.py             # does it keep its claim?
#     $ pudle run --estimator extrapolated.py   # measured with the others
#
# :doc:`/add_an_estimator` explains the check, and how a package brings an
# estimator.

# %%
# Measure it
# ----------
# An object serves wherever a spec does.

results = pudle.benchmark(
    "sparse_gaussian(n_samples=500)",
    "ista(step=0.2)",
    ["alternating", "backprop", Extrapolated()],
    depths=[5, 10, 20, 40, 60, 80, 100, 125, 150, 200, 250, 300],
    seeds=3,
    costs=False,
    progress=False,
)
errors = results.table.query("metric == 'relative_error'")
median = errors.groupby(["loss", "estimator", "depth"])["value"].median()
lasso, reconstruction = (
    median[loss].unstack("depth") for loss in ("lasso", "reconstruction")
)
print(lasso[[20, 100, 200, 300]].map("{:.1e}".format))

# %%
# Look
# ----

import matplotlib.pyplot as plt

plt.rcParams.update(
    {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}
)
COLORS = {
    "alternating": "#d55e00",
    "backprop": "#0072b2",
    "extrapolated": "#1a1a1a",
}
gain = lasso[300]["alternating"] / lasso[300]["extrapolated"]

figure, at = plt.subplots(figsize=(8, 5.6), layout="constrained")
for name, color in COLORS.items():
    rows = errors[(errors["loss"] == "lasso") & (errors["estimator"] == name)]
    seeds = rows.pivot(index="depth", columns="seed", values="value")
    at.plot(seeds, color=color, linewidth=1, alpha=0.35)
    width = 4.5 if name == "extrapolated" else 2.8
    at.plot(lasso.loc[name], color=color, linewidth=width)
at.text(205, 5e-4, "alternating", color=COLORS["alternating"], weight="bold")
at.text(232, 6e-6, "backprop", color=COLORS["backprop"], weight="bold")
about = "extrapolated:\n30 lines,\nno backward pass"
at.text(150, 1e-6, about, weight="bold", ha="right", va="center")
at.set(xlabel="depth (layers)", yscale="log", xlim=(0, 300), ylim=(1e-9, 2))
at.set_ylabel("relative error of the gradient")
at.set_title(
    f"A jump ahead makes alternating {round(gain, -2):,.0f} times as accurate",
    loc="left",
)
at.grid(alpha=0.25)
plt.show()

# %%
# That holds on the lasso loss, which is what the estimator claims. On the
# reconstruction loss the path through the codes counts, and it stops where
# ``alternating`` does:

print(reconstruction[[20, 100, 200, 300]].map("{:.1e}".format))
