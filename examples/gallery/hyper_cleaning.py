"""
Which labels are wrong?
=======================

Half of the labels of a training set were drawn anew, and nobody knows which.
Give every image a weight, train, and ask how the loss on a few clean images
changes with each weight. This gradient through a training is a hypergradient,
and it finds the wrong labels. The task is known as data hyper-cleaning.
"""

# %%
# The problem
# -----------
# The inner problem is softmax regression on weighted digits of 8 by 8 pixels,
# the outer loss that of the trained classifier on validation images, whose
# labels are right. ``pudle.StronglyConvex`` takes both as functions of torch.
# Its ``modulus`` is a lower bound of the curvature: here that of the squared
# norm.

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import pudle

digits = load_digits()
images, labels = torch.tensor(digits.data / 16), torch.tensor(digits.target)
random = torch.Generator().manual_seed(0)
order = torch.randperm(len(images), generator=random)
training, validation = order[:500], order[500:900]

noisy_labels = labels[training]
noisy_labels[:250] = torch.randint(10, (250,), generator=random)


def objective(weights, theta):
    losses = cross_entropy(
        images[training].to(theta) @ weights, noisy_labels, reduction="none"
    )
    return (theta.sigmoid() * losses).mean() + 0.2 * weights.square().sum()


def validation_loss(weights, theta):
    return cross_entropy(
        images[validation].to(theta) @ weights, labels[validation]
    )


problem = pudle.StronglyConvex(
    theta=torch.zeros(500, dtype=torch.float64),
    objective=objective,
    loss=validation_loss,
    initial=torch.zeros(64, 10, dtype=torch.float64),
    modulus=lambda theta: 0.4,
)

# %%
# The hypergradient
# -----------------
# Any estimator computes it after some steps of gradient descent. The
# reference, found by Newton's method, says how far each is off.

reference = pudle.reference(problem)
for spec in ("backprop", "truncated(window=5)", "analytic"):
    for steps in (10, 40):
        estimate = pudle.make_estimator(spec).estimate(
            problem, pudle.GradientDescent(), steps
        )
        error = pudle.score(estimate, reference).relative_error
        print(f"{spec:20} {steps:3} steps: error {error:.0e}")

# %%
# Look
# ----
# Where the hypergradient is positive, the image does harm: with a larger
# weight, the classifier would be worse on the validation images.

import matplotlib.pyplot as plt

plt.rcParams.update(
    {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}
)
WRONG, RIGHT = "#d55e00", "#0072b2"
harm = 1e3 * estimate.gradient
wrong = noisy_labels != labels[training]
worst = harm.argsort(descending=True)
n_wrong = int(wrong[worst[:100]].sum())

figure = plt.figure(figsize=(8, 5.6), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.5])
about = f"Of the 100 most harmful images, {n_wrong} have a wrong label"
upper.suptitle(about, weight="bold")
for at, which in zip(upper.subplots(2, 9).flat, worst, strict=False):
    at.imshow(images[training[which]].reshape(8, 8), cmap="gray_r")
    color = WRONG if wrong[which] else RIGHT
    at.set_title(f"labeled {noisy_labels[which]}", color=color, size=11, pad=4)
    at.set_axis_off()

at = lower.subplots()
bins = torch.linspace(harm.min(), harm.max(), 45)
at.hist(harm[~wrong], bins, color=RIGHT, alpha=0.75)
at.hist(harm[wrong], bins, color=WRONG, alpha=0.75)
at.axvline(0, color="0.3", linewidth=1.5)
at.text(-0.34, 17, "right labels", color=RIGHT, weight="bold", ha="right")
at.text(0.11, 17, "wrong labels", color=WRONG, weight="bold")
at.text(0.01, 27, "does harm →", va="top")
at.text(-0.01, 27, "← helps", va="top", ha="right")
at.set(ylabel="images", ylim=(0, 28))
at.set_xlabel("hypergradient of the image's weight (thousandths)")
plt.show()
