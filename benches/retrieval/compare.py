"""Scores the learned ranker, plain BM25 and aider's repository map on the same questions.

    python compare.py COLLECTED AIDER.json        # from collect.py and aider_map.py

Each repository is ranked by a model fitted on the others.
"""

import json
import sys

from fit_ranker import SEEDS, held_out
from measure import HEAD, Questions, of_order, of_scores, row


def main(collected, aider):
    asked = json.load(open(aider))
    questions = Questions(collected)
    keys = {(case["repo"], case["commit"]) for case in asked}
    same = [
        (case, rows)
        for case, rows in questions.select(lambda case: case["kind"] == "query")
        if (case["repo"], case["commit"]) in keys
    ]
    words = questions.signals.index("words in file")
    learned = held_out(questions, list(range(len(questions.signals))), SEEDS)
    print(f"{len(same)} questions\n\n{HEAD}")
    print(row("aider's repository map", [of_order(set(c["gold"]), c["paths"]) for c in asked]))
    print(row("BM25 over files", [of_scores(c, r[:, words]) for c, r in same]))
    print(row("learned", [m for c, m in learned if c["kind"] == "query" and (c["repo"], c["commit"]) in keys]))


if __name__ == "__main__":
    main(*sys.argv[1:])
