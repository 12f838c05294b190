"""The configuration blocks of editors/README.md, so that what is written there is what is tested."""

import re

from desk import ROOT


README = ROOT / "editors/README.md"


def model_settings(url):
    """The lines for a model, which stand before the first editor, with another address."""
    block = re.search(r"^```toml\n(.*?)^```", README.read_text().split("\n## ")[0], re.M | re.S)
    return block.group(1).replace("http://localhost:8080", url)


def block(heading, language, number=0):
    """A block in `language` below `## heading`, the first unless told otherwise."""
    text = README.read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not section:
        raise AssertionError(f"editors/README.md has no section {heading!r}")
    found = re.findall(rf"^```{language}\n(.*?)^```", section.group(1), re.M | re.S)
    if len(found) <= number:
        raise AssertionError(f"section {heading!r} has {len(found)} blocks in {language}")
    return found[number]
