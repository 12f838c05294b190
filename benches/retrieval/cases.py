"""Builds the benchmark from history: commit message → files changed, and cursor → defining file.

    python cases.py OUT.jsonl N M REPO…      # REPO: a git directory

A case is a commit that is no merge and no bot's, with 1 to 8 changed source files that are no
tests and existed before, 3 to 600 changed lines in them, and six words of message left after
cleaning. The newest N of a repository are taken; the newest M of those are marked to measure on,
the older ones only fit the ranker for other repositories. `query` is the message without paths, names of
files, compound stems of the files to find, scope prefix, trailers and links; `vague` is at most 25
words of it without anything that looks like code. `cursor` is where the first changed file of the
commit changes first, by line, with the lines the author typed there.
"""

import json
import os
import re
import subprocess
import sys

SOURCE = set(
    "rs py pyi js mjs cjs jsx ts tsx go java c h cc cpp cxx hpp hh cs rb php swift kt scala lua sh y l".split()
)
TEST = re.compile(r"(^|/)(tests?|testing|__tests__|spec|specs|fixtures|t|e2e)/|(^|/)test_|[._-](test|spec)s?\.|conftest", re.I)
CODE_LIKE = re.compile(r"[A-Za-z]*[a-z][A-Z]\w*|\w*_\w+|\w+\.\w+|\w*\d\w*|\w+\(\)|`[^`]*`|[A-Z]{2,}\w*|\S*[/\\=<>{}#@]\S*")


def git(repo, *arguments):
    run = subprocess.run(["git", "-C", repo, *arguments], capture_output=True, check=True)
    return run.stdout.decode("utf-8", "replace")


def is_source(path):
    return path.rsplit(".", 1)[-1].lower() in SOURCE and not TEST.search(path)


def clean(message, gold, names):
    lines = [l for l in message.splitlines() if not re.match(r"\s*([A-Z][\w-]+-by|Change-Id|Fixes|Closes|Refs?|See|git-svn-id)\b.*:", l)]
    text = "\n".join(lines)
    text = re.sub(r"https?://\S+|\(?#\d+\)?|\b[0-9a-f]{8,40}\b", " ", text)
    text = re.sub(r"^\s*[\w/.,* -]{1,40}(\([^)]*\))?!?:\s+", "", text)
    text = re.sub(r"\S*/\S*", " ", text)
    stems = {os.path.basename(path).rsplit(".", 1)[0].lower() for path in gold}
    compound = {s for s in stems if re.search(r"[_\-.]|[a-z][A-Z]", s)} | {
        os.path.basename(p).rsplit(".", 1)[0].lower() for p in gold if re.search(r"[a-z][A-Z]", os.path.basename(p))
    }

    def keep(word):
        bare = word.strip("`'\"()[],.:;*").lower()
        return bare not in names and bare not in compound

    return " ".join(w for w in text.split() if keep(w))


def vague(query):
    words = []
    for word in query.split():
        bare = word.strip("`'\"()[],.:;*!?")
        if bare and not CODE_LIKE.fullmatch(bare) and re.fullmatch(r"[A-Za-z][a-z'-]*", bare):
            words.append(bare)
    return " ".join(words[:25])


def first_typed(repo, parent, commit, gold):
    """Returns where the author first typed at least five lines' worth, and those lines."""
    for path in gold:
        diff = git(repo, "diff", "-U0", parent, commit, "--", path)
        for hunk in re.split(r"(?m)^@@", diff)[1:]:
            head, *lines = hunk.splitlines()
            added = [l[1:] for l in lines if l.startswith("+")]
            if len([l for l in added if l.strip()]) >= 3:
                old = re.match(r" -(\d+)(?:,(\d+))?", head)
                start, n = int(old.group(1)), int(old.group(2) or 1)
                return {"path": path, "line": start if n == 0 else start - 1, "typed": added[:5]}
    return None


def changed_lines(repo, parent, commit, paths):
    """Returns 0 where the repository lacks an object (large files may be absent from a mirror)."""
    try:
        stat = git(repo, "diff", "--numstat", parent, commit, "--", *paths)
    except subprocess.CalledProcessError:
        return 0
    counts = [line.split("\t")[:2] for line in stat.splitlines()]
    return sum(int(n) for pair in counts for n in pair if n != "-")


def cases(repo, limit, n_newest):
    name = os.path.basename(os.path.dirname(os.path.abspath(repo)))
    log = git(repo, "log", "--no-merges", "-n", "6000", "--format=%x01%H%x02%P%x02%an%x02%B%x03", "--name-status", "--no-renames", "HEAD")
    out = []
    subjects = set()
    for entry in log.split("\x01")[1:]:
        head, _, stat = entry.partition("\x03")
        commit, parents, author, message = head.split("\x02", 3)
        parent = parents.split()[0] if parents else None
        subject = message.strip().split("\n")[0]
        if not parent or "bot" in author.lower() or subject in subjects or re.match(r"(?i)(revert|bump|merge|release|version)\b", subject):
            continue
        changed = [line.split("\t") for line in stat.strip().splitlines() if line.count("\t") == 1]
        gold = [path for status, path in changed if status == "M" and is_source(path)]
        if not 1 <= len(gold) <= 8 or len(changed) > 40:
            continue
        n_lines = changed_lines(repo, parent, commit, gold)
        if not 3 <= n_lines <= 600:
            continue
        files = git(repo, "ls-tree", "-r", "--name-only", parent).splitlines()
        known = set(files)
        gold = [path for path in gold if path in known]
        if not gold:
            continue
        names = {os.path.basename(f).lower() for f in files if "." in os.path.basename(f)}
        query = clean(message, gold, names)[:2000]
        if len([w for w in re.findall(r"[A-Za-z]{3,}", query)]) < 6:
            continue
        subjects.add(subject)
        out.append({"repo": name, "commit": commit, "parent": parent, "query": query, "vague": vague(query),
                    "gold": gold, "cursor": first_typed(repo, parent, commit, gold)})
        if len(out) == limit:
            break
    # Oldest first, so that a working tree moves forward through them.
    return [case | {"newest": at < n_newest} for at, case in enumerate(out)][::-1]


if __name__ == "__main__":
    with open(sys.argv[1], "w") as target:
        for repo in sys.argv[4:]:
            found = cases(repo, int(sys.argv[2]), int(sys.argv[3]))
            print(repo, len(found), flush=True)
            target.writelines(json.dumps(case) + "\n" for case in found)
