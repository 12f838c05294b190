"""The blocks of the documentation, so that what is written there is what is tested."""

import re

from desk import ROOT

#: The pages whose blocks users copy.
EDITORS = "editors/README.md"
VSCODE = "editors/vscode/README.md"
NEOVIM = "editors/neovim/README.md"
FRONT = "README.md"
PAGES = (EDITORS, VSCODE, NEOVIM, FRONT)

#: A fenced block: its language and its lines.
FENCE = re.compile(r"^```([a-z]+)\n(.*?)^```", re.M | re.S)


def sections(page):
    """The text below each heading of a page; what comes before the first one is below ''."""
    parts = re.split(r"^## (.*)\n", (ROOT / page).read_text(), flags=re.M)
    return dict(zip(["", *parts[1::2]], parts[::2]))


def block(heading, language, number=0, page=EDITORS):
    """A block in `language` below `## heading`, the first unless told otherwise."""
    section = sections(page).get(heading)
    if section is None:
        raise AssertionError(f"{page} has no section {heading!r}")
    found = [text for kind, text in FENCE.findall(section) if kind == language]
    if len(found) <= number:
        raise AssertionError(f"section {heading!r} of {page} has {len(found)} blocks in {language}")
    return found[number]


def blocks():
    """All blocks of all pages as what `block` is called with."""
    for page in PAGES:
        for heading, section in sections(page).items():
            kinds = [kind for kind, _ in FENCE.findall(section)]
            for n, kind in enumerate(kinds):
                yield heading, kind, kinds[:n].count(kind), page
