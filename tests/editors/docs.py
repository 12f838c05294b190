"""The configuration blocks of editors/README.md, so that what is written there is what is tested."""

import re

from desk import ROOT


def block(heading, language):
    """The first block in `language` below `## heading`."""
    text = (ROOT / "editors/README.md").read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not section:
        raise AssertionError(f"editors/README.md has no section {heading!r}")
    found = re.search(rf"^```{language}\n(.*?)^```", section.group(1), re.M | re.S)
    if not found:
        raise AssertionError(f"section {heading!r} has no block in {language}")
    return found.group(1)
