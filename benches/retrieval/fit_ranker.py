"""Fits the rankers (indexer/src/rank/*.json): LambdaMART over the signals of each candidate.

    python fit_ranker.py COLLECTED ../../indexer/src/rank      # needs numpy, lightgbm

Prints what the same recipe reaches on each repository when it is fitted on the others only (leave
one repository out), for the full questions, the vague ones and the cursors, beside single signals
and reciprocal rank fusion; then the same with groups of signals left out. Measured on the newest
commits of a repository; fitted on all commits of the others. The files written are fitted on all.
"""

import json
import sys

import lightgbm
import numpy as np

from measure import HEAD, Questions, mean, of_scores, row

SEEDS = 2

class Kind:
    """What is fitted: its questions, how large the model is, and what is known of its signals."""

    def __init__(self, folder, prefix, trees, leaves, rate, rising, groups):
        self.questions = Questions(folder, prefix)
        self.size = trees, leaves, rate
        self.rising, self.groups = rising, groups

    @property
    def signals(self):
        return self.questions.signals


# What more of it cannot make worse: keeps the trees from learning a repository's accidents.
RISING = (
    "words in file", "words in best chunks", "words in best chunk", "share of the question found",
    "words in path", "words in symbols", "defines a name in the question", "file is named in the question",
    "similar past commits", "past messages about it", "changes with the best hits", "changed recently",
    "used by the best hits", "meaning", "places of words, chunks, path and symbols", "places of all signals",
)
CURSOR_RISING = (
    "defines names", "names near the cursor", "is imported", "used by", "changes together", "has the words",
    "has similar code", "names things after",
)

GROUPS = {
    "history": ("similar past commits", "past messages", "changes with", "changed recently", "changed often"),
    "symbol graph": ("used by the best hits",),
    "vectors": ("meaning",),
    "paths": ("words in path",),
    "symbols": ("words in symbols", "defines a name", "file is named"),
    "chunks": ("words in best chunk",),
    "kind of file": ("is a test", "question is about tests", "is code", "share of the language", "length", "definitions", "folder depth"),
}
CURSOR_GROUPS = {
    "names near the cursor": ("defines names near", "defines names on", "names near"),
    "names of the whole file": ("defines names this file",),
    "imports": ("is imported", "defines names of the imports"),
    "files beside": ("used by the files beside", "beside this file", "share of folders"),
    "files with similar code": ("used by files with", "has similar code", "has the words"),
    "words": ("names things after", "is named after"),
    "history": ("changes together", "changed"),
    "kind of file": ("same language", "is a test", "this file is a test", "length", "definitions"),
}

SINGLE = {
    "": (
        "words in file", "words in best chunks", "words in path", "words in symbols", "similar past commits",
        "past messages about it", "changes with the best hits", "changed recently", "used by the best hits",
        "meaning", "places of words, chunks, path and symbols", "places of all signals",
    ),
    "cursor_": (
        "defines names near the cursor", "defines names on the last lines", "defines names this file uses",
        "is imported", "defines names of the imports", "used by the files beside this one",
        "used by files with similar code", "changes together with this file", "has the words of the last lines",
        "names things after the last lines",
    ),
}


def fit(kind, questions, columns, seed):
    rows = np.concatenate([part[:, columns] for _, part in questions])
    labels = np.concatenate([case["is_gold"] for case, _ in questions]).astype(int)
    # Every repository counts the same, however many of its commits qualify.
    counts = {}
    for case, _ in questions:
        counts[case["repo"]] = counts.get(case["repo"], 0) + 1
    weights = np.concatenate([np.full(len(part), 100 / counts[case["repo"]]) for case, part in questions])
    names = [kind.signals[at] for at in columns]
    trees, leaves, rate = kind.size
    parameters = {
        "objective": "lambdarank", "learning_rate": rate, "num_leaves": leaves, "min_data_in_leaf": 60,
        "lambdarank_truncation_level": 15, "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1,
        "bagging_by_query": True, "lambda_l2": 5.0, "verbose": -1, "seed": seed, "num_threads": 1, "max_bin": 63,
        "monotone_constraints": [int(name.startswith(kind.rising)) for name in names],
    }
    data = lightgbm.Dataset(rows, labels, weight=weights, group=[len(part) for _, part in questions])
    return lightgbm.train(parameters, data, trees)


def held_out(kind, columns, seeds):
    """Returns what each question measures when its repository was left out of the fit."""
    measured = []
    for repo in kind.questions.repos:
        train = kind.questions.select(lambda case: case["repo"] != repo and any(case["is_gold"]))
        models = [fit(kind, train, columns, seed) for seed in range(seeds)]
        for case, rows in kind.questions.select(lambda case: case["repo"] == repo and case["newest"]):
            scores = sum(model.predict(rows[:, columns]) for model in models)
            measured.append((case, of_scores(case, scores)))
    return measured


def only(measured, kind, repo=None):
    return [m for case, m in measured if case["kind"] == kind and repo in (None, case["repo"])]


def exported(model):
    def tree(root):
        nodes, leaves = [], []

        def visit(node):
            if "leaf_value" in node:
                leaves.append(node["leaf_value"])
                return -len(leaves)
            at = len(nodes)
            nodes.append(None)
            left, right = visit(node["left_child"]), visit(node["right_child"])
            nodes[at] = (node["split_feature"], node["threshold"], left, right, node["internal_value"])
            return at

        visit(root)
        columns = list(zip(*nodes)) if nodes else [[]] * 5
        keys = ("signal", "threshold", "left", "right", "inner")
        short = [[float(f"{v:.6g}") if isinstance(v, float) else v for v in column] for column in columns]
        return dict(zip(keys, short)) | {"leaf": [float(f"{v:.6g}") for v in leaves]}

    return [tree(info["tree_structure"]) for info in model.dump_model()["tree_info"]]


def report(kind, prefix, titles):
    everything = list(range(len(kind.signals)))
    newest = kind.questions.select(lambda case: case["newest"])
    fitted = held_out(kind, everything, SEEDS)
    for sort, title in titles.items():
        print(f"\n### {title} ({len(only(fitted, sort))})\n\n{HEAD}")
        for name in SINGLE[prefix]:
            at = kind.signals.index(name)
            print(row(name, [of_scores(c, r[:, at]) for c, r in newest if c["kind"] == sort]))
        print(row("**learned, repository left out**", only(fitted, sort)))
        print(f"\n{HEAD.replace('| |', '| left out |', 1)}")
        for repo in kind.questions.repos:
            n = len(only(fitted, sort, repo))
            print(row(f"{repo.replace('+', '/')}, {n}", only(fitted, sort, repo)))
    cases = [case for case, _ in newest]
    pool = [len(set(case["gold"]) & set(case["paths"])) / len(set(case["gold"])) for case in cases]
    print(f"\nCandidates: {np.mean([len(c['paths']) for c in cases]):.0f} a question, holding "
          f"{np.mean(pool):.3f} of the files to find. Fitted on {len(kind.questions.cases)} questions in all.")
    head = " | ".join(f"{sort}: R@1 | R@5 | R@10 | MRR" for sort in titles)
    print(f"\n### Without a group of signals\n\n| without | {head} |\n|{'---|' * (1 + 4 * len(titles))}")
    for group, starts in {"nothing": (), **kind.groups}.items():
        columns = [at for at, name in enumerate(kind.signals) if not name.startswith(starts)] if starts else everything
        measured = fitted if not starts else held_out(kind, columns, 1)
        values = [value for sort in titles for value in mean(only(measured, sort))[[0, 1, 2, 4]]]
        print(f"| {group} | " + " | ".join(f"{value:.3f}"[1:] for value in values) + " |", flush=True)


def write(kind, target):
    everything = list(range(len(kind.signals)))
    train = kind.questions.select(lambda case: any(case["is_gold"]))
    trees = [tree for seed in range(SEEDS) for tree in exported(fit(kind, train, everything, seed))]
    for tree in trees:
        for key in ("inner", "leaf"):
            tree[key] = [float(f"{value / SEEDS:.6g}") for value in tree[key]]
    with open(target, "w") as out:
        out.write('{"signals":' + json.dumps(kind.signals) + ',\n"trees":[\n')
        out.write(",\n".join(json.dumps(tree, separators=(",", ":")) for tree in trees) + "\n]}\n")


def files_kind(folder):
    return Kind(folder, "", 160, 7, 0.06, RISING, GROUPS)


def cursor_kind(folder):
    return Kind(folder, "cursor_", 120, 6, 0.06, CURSOR_RISING, CURSOR_GROUPS)


if __name__ == "__main__":
    files, cursors = files_kind(sys.argv[1]), cursor_kind(sys.argv[1])
    if len(sys.argv) > 2:
        write(files, f"{sys.argv[2]}/files.json")
        write(cursors, f"{sys.argv[2]}/cursor.json")
    report(files, "", {"query": "Full questions", "vague": "Vague questions"})
    report(cursors, "cursor_", {"cursor": "Cursors"})
