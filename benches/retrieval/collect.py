"""Asks the index every question of the benchmark and keeps what each signal said.

    cargo build --release -p indexer --example serve
    python collect.py SERVE CASES.jsonl WORK OUT REPO…      # REPO: a git directory, as for cases.py

For every case the repository is checked out at the parent commit in WORK, indexed in place as an
editor would after a branch switch, and asked for the candidates of the full and of the vague
question and for the files near the cursor. OUT/<repository>.npz holds the rows of all candidates;
fit_ranker.py and compare.py read it. Needs numpy.
"""

import collections
import json
import os
import re
import subprocess
import sys
import time

import numpy as np


class Index:
    def __init__(self, serve, root, cache):
        self.process = subprocess.Popen([serve, root, cache], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def checkout(root, commit, absent):
    """Makes the tree that of a commit. Mirrors may lack large data files: those are left out."""
    for _ in range(4):
        run = subprocess.run(["git", "-C", root, "checkout", "-q", "-f", commit], capture_output=True, text=True)
        if run.returncode == 0:
            return True
        absent |= set(re.findall(r"unable to read sha1 file of (.+) \(", run.stderr))
        subprocess.run(
            ["git", "-C", root, "sparse-checkout", "set", "--no-cone", "/*", *(f"!/{path}" for path in absent)],
            capture_output=True,
        )
    return False


NAME = re.compile(r"[A-Za-z_]\w{2,}")


def names_in_code(lines):
    """Returns the names on `lines` that stand in no comment and no string."""
    text = re.sub(r"(?s)(\"{3}|\'{3}).*?(\1|\Z)", " ", "\n".join(lines))
    text = re.sub(r"(?s)/\*.*?(\*/|\Z)", " ", text)
    text = re.sub(r'"(\\.|[^"\\\n])*("|$)|`[^`\n]*`', " ", text)
    text = re.sub(r"'(\\.|[^'\\\n])*'", " ", text)
    text = re.sub(r"(?m)(//|(^|\s)#(?!\[|include|define|if|el|end|undef|pragma)|^\s*\*\s).*$", " ", text)
    return set(NAME.findall(text))


def cursor_case(index, root, cursor):
    """Returns the files near the cursor and those that define what was typed there."""
    path = os.path.join(root, cursor["path"])
    text = open(path, encoding="utf-8", errors="replace").read()
    before = "".join(text.splitlines(keepends=True)[: cursor["line"]])
    names = sorted(set(NAME.findall("\n".join(cursor["typed"]))))
    definers = index.ask(op="definers", names=names)

    def defining(names):
        of_few = [definers[name] for name in names if len(definers[name]) <= 2]
        return {file for files in of_few if cursor["path"] not in files for file in files}

    gold = defining(names_in_code(cursor["typed"]))
    if not gold:
        return None
    at = len(before.encode())
    near = index.ask(op="cursor", path=cursor["path"], text=text, cursor=at, limit=20)
    return {"gold": sorted(gold), "gold_of_words": sorted(defining(names)), **near}


def collect(serve, repo, cases, work, out):
    name = cases[0]["repo"]
    root, cache = os.path.join(work, name, "tree"), os.path.join(work, name, "cache")
    if not os.path.isdir(root):
        subprocess.run(["git", "clone", "-q", "--shared", "--no-checkout", repo, root], check=True)
    os.makedirs(cache, exist_ok=True)
    index = Index(serve, root, cache)
    kept, rows, cursors, absent = [], [], [], set()
    started = time.time()
    for case in cases:
        if not checkout(root, case["parent"], absent):
            print(name, case["commit"], "cannot be checked out", flush=True)
            continue
        asked = time.time()
        synced = index.ask(op="sync")
        seconds = time.time() - asked
        if not synced["settled"]:
            print(name, case["commit"], "did not settle", flush=True)
            continue
        for kind in ("query", "vague"):
            if len(case[kind].split()) < 3:
                continue
            asked = time.time()
            found = index.ask(op="candidates", text=case[kind])
            paths = [path for path, _ in found]
            is_gold = [path in case["gold"] for path in paths]
            kept.append(
                {"repo": name, "commit": case["commit"], "newest": case["newest"], "kind": kind, "gold": case["gold"], "paths": paths,
                 "is_gold": is_gold, "n_files": synced["status"]["nIndexed"],
                 "sync_seconds": seconds, "ask_seconds": time.time() - asked}
            )
            rows.append(np.array([row for _, row in found], np.float32).reshape(len(found), -1))
        if case["cursor"]:
            near = cursor_case(index, root, case["cursor"])
            if near:
                cursors.append({"repo": name, "commit": case["commit"], "newest": case["newest"], **near})
    signals = index.ask(op="signals")
    index.process.stdin.close()
    index.process.wait()
    np.savez_compressed(
        os.path.join(out, name + ".npz"),
        rows=np.concatenate(rows),
        ends=np.cumsum([len(part) for part in rows]),
        cases=json.dumps(kept),
        cursors=json.dumps(cursors),
        signals=json.dumps(signals),
    )
    print(f"{name}: {len(kept)} questions, {len(cursors)} cursors, {time.time() - started:.0f} s", flush=True)


def main(serve, cases, work, out, *repos):
    by_repo = collections.defaultdict(list)
    for line in open(cases):
        case = json.loads(line)
        by_repo[case["repo"]].append(case)
    os.makedirs(out, exist_ok=True)
    for repo in repos:
        name = os.path.basename(os.path.dirname(os.path.abspath(repo)))
        collect(serve, os.path.abspath(repo), by_repo[name], work, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
