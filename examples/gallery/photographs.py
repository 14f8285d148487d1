"""
A dictionary of photographs
===========================

What is where in a picture? A linear classifier of pixels hardly tells small
patches of brick, grass and gravel apart. Behind a dictionary that was learned
from photographs it does. ``pudle.UnrolledDictionaryLearning`` is a transformer
of scikit-learn, and stands in its pipelines.
"""

# %%
# Data
# ----
# Photographs of three materials, which come with scikit-image. The left halves
# are for training.

import numpy as np
from skimage import data
from sklearn.feature_extraction.image import extract_patches_2d

SIZE = 8
NAMES = ["brick", "grass", "gravel"]
photographs = [getattr(data, name)().astype(float) for name in NAMES]
photographs = [(photo - photo.mean()) / photo.std() for photo in photographs]


def patches(image, count, seed=0):
    """Return patches as rows, without their means."""
    rows = extract_patches_2d(
        image, (SIZE, SIZE), max_patches=count, random_state=seed
    )
    rows = rows.reshape(-1, SIZE**2)
    return rows - rows.mean(axis=1, keepdims=True)


X = np.concatenate([patches(photo[:, :256], 1000) for photo in photographs])
X_test = np.concatenate(
    [patches(photo[:, 256:], 1000, seed=1) for photo in photographs]
)
y = np.repeat(NAMES, 1000)

# %%
# The pipeline
# ------------
# The dictionary has 64 atoms. ``transform`` returns the codes, which are
# sparse, and the classifier sees their sizes. Like every parameter of a
# pipeline, the penalty ``alpha`` could be chosen by ``GridSearchCV``.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import pudle

dictionary = pudle.UnrolledDictionaryLearning(
    64, alpha=0.15, epochs=10, random_state=0
)
classifier = LogisticRegression(max_iter=1000)
sizes = FunctionTransformer(np.abs)
pipeline = make_pipeline(dictionary, sizes, classifier).fit(X, y)
pixels = make_pipeline(sizes, LogisticRegression(max_iter=1000)).fit(X, y)
for name, model in [("codes", pipeline), ("pixels", pixels)]:
    right = 100 * model.score(X_test, y)
    print(f"by sizes of {name}, {right:.0f} % of the patches are right")

# %%
# Look
# ----
# A picture made of the right halves, which the pipeline has not seen. Each
# patch is classified, and what is likely nearby counts.

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

rows, columns = np.mgrid[:256, :256]
disk = (rows - 128) ** 2 + (columns - 128) ** 2 < 80**2
truth = np.where(disk, 0, np.where(columns < 128, 1, 2))
picture = np.choose(truth, [photo[:256, 256:] for photo in photographs])

# Every second patch in both directions, and the pixels in their middles.
windows = sliding_window_view(picture, (SIZE, SIZE))[::2, ::2]
middles = slice(SIZE // 2, 1 - SIZE // 2, 2)
flat = windows.reshape(-1, SIZE**2)
likely = pipeline.predict_proba(flat - flat.mean(axis=1, keepdims=True))
likely = likely.reshape(*windows.shape[:2], 3)
materials = gaussian_filter(likely, sigma=(6, 6, 0)).argmax(axis=2)
share = (materials == truth[middles, middles]).mean()

plt.rcParams.update({"font.size": 13})
COLORS = dict(zip(NAMES, ["#d55e00", "#008a63", "#0072b2"], strict=True))
figure = plt.figure(figsize=(8, 5.6), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[3.4, 1])
left, right = upper.subplots(1, 2)
left.imshow(picture, cmap="gray")
left.set_title("Three materials ...")
right.imshow(picture[middles, middles], cmap="gray")
tints = np.array([to_rgb(COLORS[name]) for name in NAMES])
right.imshow(tints[materials], alpha=0.55)
right.set_title(f"... found in {100 * share:.0f} % of the places")
for at in (left, right):
    at.set_axis_off()
for name, part in zip(NAMES, lower.subfigures(1, 3, wspace=0.08), strict=True):
    weights = classifier.coef_[list(classifier.classes_).index(name)]
    part.suptitle(f"atoms for {name}", color=COLORS[name], weight="bold")
    strongest = dictionary.components_[(-weights).argsort()[:4]]
    for at, atom in zip(part.subplots(1, 4), strongest, strict=True):
        at.imshow(atom.reshape(SIZE, SIZE), cmap="gray")
        at.set_axis_off()
plt.show()
