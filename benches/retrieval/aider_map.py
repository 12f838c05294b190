"""Asks aider's repository map the benchmark's questions: the files in the order its map ranks them.

    pip install aider-chat                                   # in an environment of its own
    python aider_map.py CASES.jsonl WORK N OUT.json REPO…    # WORK as left by collect.py

A question's words are the mentioned identifiers, as aider takes them from the chat; no file is in
the chat. The files of its ranked tags, in order, are the answer. The newest N cases a repository.
"""

import collections
import json
import os
import re
import subprocess
import sys
import time

from aider.repomap import RepoMap

from collect import checkout


class Model:
    """Counts tokens as the map wants them; only its budget depends on it, not its order."""

    def token_count(self, text):
        return len(text) // 4


class Quiet:
    """Says nothing and reads files, as aider's own does."""

    def read_text(self, path, **_):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def __getattr__(self, _):
        return lambda *arguments, **named: None


def files_of(root):
    listed = subprocess.run(["git", "-C", root, "ls-files"], capture_output=True, text=True).stdout
    return [os.path.join(root, path) for path in listed.splitlines() if os.path.isfile(os.path.join(root, path))]


def main(cases, work, n, target, *repos):
    by_repo = collections.defaultdict(list)
    for line in open(cases):
        case = json.loads(line)
        by_repo[case["repo"]].append(case)
    out = []
    for name in repos:
        root, absent = os.path.join(work, name, "tree"), set()
        for case in by_repo[name][-int(n):]:
            if not checkout(root, case["parent"], absent):
                continue
            started = time.process_time()
            repo_map = RepoMap(root=root, main_model=Model(), io=Quiet())
            words = set(re.findall(r"\w+", case["query"]))
            tags = repo_map.get_ranked_tags([], files_of(root), set(), words)
            paths = list(dict.fromkeys(tag[0] for tag in tags))
            out.append({**case, "paths": paths, "seconds": time.process_time() - started})
        print(name, len(out), flush=True)
        json.dump(out, open(target, "w"))


if __name__ == "__main__":
    main(*sys.argv[1:])
