"""Fits the ranker (indexer/src/rank/files.json): LambdaMART over the signals of each candidate.

    python fit_ranker.py COLLECTED ../../indexer/src/rank/files.json      # needs numpy, lightgbm

Prints what the same recipe reaches on each repository when it is fitted on the others only (leave
one repository out), for the full and the vague questions, beside single signals and reciprocal rank
fusion; then the same with groups of signals left out. Measured on the newest commits of a
repository; fitted on all commits of the others. The file written is fitted on all. Cursors are
ranked without a model; what they reach stands below.
"""

import json
import sys

import lightgbm
import numpy as np

from measure import HEAD, Questions, mean, of_order, of_scores, row

SEEDS = 2

TREES, LEAVES, RATE = 160, 7, 0.06

# What more of it cannot make worse: keeps the trees from learning a repository's accidents.
RISING = (
    "words in file", "words in best chunks", "words in best chunk", "share of the question found",
    "words in path", "words in symbols", "defines a name in the question", "file is named in the question",
    "similar past commits", "past messages about it", "changes with the best hits", "changed recently",
    "used by the best hits", "meaning", "places of words, chunks, path and symbols", "places of all signals",
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
SINGLE = (
    "words in file", "words in best chunks", "words in path", "words in symbols", "similar past commits",
    "past messages about it", "changes with the best hits", "changed recently", "used by the best hits",
    "meaning", "places of words, chunks, path and symbols", "places of all signals",
)


def fit(asked, questions, columns, seed):
    rows = np.concatenate([part[:, columns] for _, part in questions])
    labels = np.concatenate([case["is_gold"] for case, _ in questions]).astype(int)
    # Every repository counts the same, however many of its commits qualify.
    counts = {}
    for case, _ in questions:
        counts[case["repo"]] = counts.get(case["repo"], 0) + 1
    weights = np.concatenate([np.full(len(part), 100 / counts[case["repo"]]) for case, part in questions])
    names = [asked.signals[at] for at in columns]
    parameters = {
        "objective": "lambdarank", "learning_rate": RATE, "num_leaves": LEAVES, "min_data_in_leaf": 60,
        "lambdarank_truncation_level": 15, "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1,
        "bagging_by_query": True, "lambda_l2": 5.0, "verbose": -1, "seed": seed, "num_threads": 1, "max_bin": 63,
        "monotone_constraints": [int(name.startswith(RISING)) for name in names],
    }
    data = lightgbm.Dataset(rows, labels, weight=weights, group=[len(part) for _, part in questions])
    return lightgbm.train(parameters, data, TREES)


def held_out(asked, columns, seeds):
    """Returns what each question measures when its repository was left out of the fit."""
    measured = []
    for repo in asked.repos:
        train = asked.select(lambda case: case["repo"] != repo and any(case["is_gold"]))
        models = [fit(asked, train, columns, seed) for seed in range(seeds)]
        for case, rows in asked.select(lambda case: case["repo"] == repo and case["newest"]):
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


def report(asked):
    everything = list(range(len(asked.signals)))
    newest = asked.select(lambda case: case["newest"])
    fitted = held_out(asked, everything, SEEDS)
    for kind, title in (("query", "Full questions"), ("vague", "Vague questions")):
        print(f"\n### {title} ({len(only(fitted, kind))})\n\n{HEAD}")
        for name in SINGLE:
            at = asked.signals.index(name)
            print(row(name, [of_scores(c, r[:, at]) for c, r in newest if c["kind"] == kind]))
        print(row("**learned, repository left out**", only(fitted, kind)))
        print(f"\n{HEAD.replace('| |', '| left out |', 1)}")
        for repo in asked.repos:
            print(row(repo.replace("+", "/"), only(fitted, kind, repo)))
    cases = [case for case, _ in newest]
    pool = [len(set(case["gold"]) & set(case["paths"])) / len(set(case["gold"])) for case in cases]
    print(f"\nCandidates: {np.mean([len(c['paths']) for c in cases]):.0f} a question, holding "
          f"{np.mean(pool):.3f} of the files to find. Questions in all: {len(asked.cases)}.", flush=True)
    for gold, title in (("gold", "names in code"), ("gold_of_words", "all words")):
        print(f"\n### Cursor → defining files of {title}\n\n{HEAD}")
        cursors = [c for c in asked.cursors if c["newest"] and c.get(gold)]
        measured = [(c["repo"], of_order(set(c[gold]), c["files"])) for c in cursors]
        for repo in asked.repos:
            of_repo = [m for name, m in measured if name == repo]
            print(row(f"{repo.replace('+', '/')}, {len(of_repo)}", of_repo))
        print(row(f"**all, {len(measured)}**", [m for _, m in measured]), flush=True)
    print("\n### Without a group of signals (full: R@1, R@10, MRR; vague: R@10)\n\n| without | R@1 | R@10 | MRR | vague R@10 |\n|---|---|---|---|---|")
    for group, starts in {"nothing": (), **GROUPS}.items():
        columns = [at for at, name in enumerate(asked.signals) if not name.startswith(starts)] if starts else everything
        measured = fitted if not starts else held_out(asked, columns, 1)
        full, vague = mean(only(measured, "query")), mean(only(measured, "vague"))
        print(f"| {group} | {full[0]:.3f} | {full[2]:.3f} | {full[4]:.3f} | {vague[2]:.3f} |", flush=True)


def write(asked, target):
    everything = list(range(len(asked.signals)))
    train = asked.select(lambda case: any(case["is_gold"]))
    trees = [tree for seed in range(SEEDS) for tree in exported(fit(asked, train, everything, seed))]
    for tree in trees:
        for key in ("inner", "leaf"):
            tree[key] = [float(f"{value / SEEDS:.6g}") for value in tree[key]]
    with open(target, "w") as out:
        out.write('{"signals":' + json.dumps(asked.signals) + ',\n"trees":[\n')
        out.write(",\n".join(json.dumps(tree, separators=(",", ":")) for tree in trees) + "\n]}\n")


if __name__ == "__main__":
    asked = Questions(sys.argv[1])
    if len(sys.argv) > 2:
        write(asked, sys.argv[2])
    report(asked)
