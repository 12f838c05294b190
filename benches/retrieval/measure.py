"""Reads what collect.py kept, and scores orders of files against the files a commit changed.

R@k is the share of a case's files among the first k, MRR the mean of 1/(place of the first of
them); a file that is no candidate is missed. Means are over cases.
"""

import glob
import json
import os

import numpy as np

CUTS = (1, 5, 10, 20)


class Questions:
    """All questions: for each its candidates' rows and which of them are right. And the cursors."""

    def __init__(self, folder):
        self.cases, self.parts, self.cursors = [], [], []
        for path in sorted(glob.glob(os.path.join(folder, "*.npz"))):
            data = np.load(path)
            self.signals = json.loads(str(data["signals"]))
            self.cases += json.loads(str(data["cases"]))
            self.cursors += json.loads(str(data["cursors"]))
            self.parts += np.split(data["rows"], data["ends"][:-1])
        self.repos = sorted({case["repo"] for case in self.cases})

    def select(self, keep):
        return [(case, rows) for case, rows in zip(self.cases, self.parts) if keep(case)]


def of_order(gold, ordered):
    """Returns R@k for each cut, then the reciprocal place of the first right file."""
    places = [at for at, path in enumerate(ordered) if path in gold]
    recalls = [sum(at < cut for at in places) / len(gold) for cut in CUTS]
    return recalls + [1 / (places[0] + 1) if places else 0.0]


def of_scores(case, scores):
    order = np.argsort(-np.asarray(scores), kind="stable")[:200]
    return of_order(set(case["gold"]), [case["paths"][at] for at in order])


def mean(measured):
    return np.mean(measured, axis=0) if len(measured) else np.full(len(CUTS) + 1, np.nan)


def row(name, measured):
    values = " | ".join(f"{value:.3f}"[1:] if value < 1 else "1" for value in mean(measured))
    return f"| {name} | {values} |"


HEAD = "| | R@1 | R@5 | R@10 | R@20 | MRR |\n|---|---|---|---|---|---|"
