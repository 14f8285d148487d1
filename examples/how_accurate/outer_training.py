"""Train an outer parameter with the gradients of one estimator, and print what they led to, as a
line of JSON: `python outer_training.py --dataset hyper_cleaning --estimator backprop --depth 20`.
"""

import argparse
import json
import time
from dataclasses import replace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import pudle

#: Steps of Adam, its rate, and the number of steps from one exact gradient to the next.
STEPS, RATE, EVERY = 100, 0.05, 20


def train(dataset, estimator, algorithm, depth):
    """Return the trained problem, errors and cosines on the way, and the processor's seconds."""
    problem, scores, seconds = dataset.problem(), [], 0.0
    theta = problem.theta.clone()
    adam = torch.optim.Adam([theta], lr=RATE)
    for step in range(STEPS):
        began = time.process_time()
        problem = replace(problem, theta=theta.clone())
        estimate = estimator.estimate(problem, algorithm, depth)
        seconds += time.process_time() - began
        if step % EVERY == 0:
            scores.append(pudle.score(estimate, pudle.reference(problem)))
        theta.grad = estimate.gradient
        adam.step()
    errors = [score.relative_error for score in scores]
    cosines = [1 - score.cosine_error for score in scores]
    return replace(problem, theta=theta), errors, cosines, seconds


def outcome(dataset, problem):
    """Return what the exact minimizer for the trained parameter achieves."""
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    scores = {"loss": float(problem.outer_loss(reference.codes))}
    if dataset.name == "hyper_cleaning":
        training, _, test = dataset.draw()
        guesses = (test.images @ reference.codes.numpy()).argmax(1)
        scores["auc"] = float(roc_auc_score(~training.wrong, problem.theta))
        scores["accuracy"] = float(np.mean(guesses == test.labels))
    return scores


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dataset", default="hyper_cleaning")
    options.add_argument("--estimator", default="analytic")
    options.add_argument("--algorithm", default="gradient_descent")
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    said = options.parse_args()
    dataset = replace(pudle.make_dataset(said.dataset), seed=said.seed)
    estimator = pudle.make_estimator(said.estimator)
    algorithm = pudle.make_algorithm(said.algorithm)
    problem, errors, cosines, seconds = train(dataset, estimator, algorithm, said.depth)
    line = {
        **vars(said),
        **outcome(dataset, problem),
        "error": float(np.median(errors)),
        "first": errors[0],
        "last": errors[-1],
        "cosine": float(np.median(cosines)),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
