"""A workspace of three files, and a model's answer that changes them."""

import difflib

from scripted_model import ChatModel, in_turn

NUMBERS = "".join(f"line {n}\n" for n in range(1, 21))
OTHER = "alpha\nbeta\n"
THIRD = "one\ntwo\n"

#: Two hunks in a.txt, one each in b.txt and c.txt.
ANSWER = """\
a.txt
<<<<<<< SEARCH
line 3
=======
LINE 3
and more
>>>>>>> REPLACE

a.txt
<<<<<<< SEARCH
line 15
=======
LINE 15
>>>>>>> REPLACE

b.txt
<<<<<<< SEARCH
beta
=======
BETA
>>>>>>> REPLACE

c.txt
<<<<<<< SEARCH
one
=======
ONE
>>>>>>> REPLACE
"""

FILES = {"a.txt": NUMBERS, "b.txt": OTHER, "c.txt": THIRD, "answer.md": ANSWER}


def large():
    """A file of 10,000 lines, and a diff that changes 5,000 of them in 1,000 hunks."""
    before = [f"line {n}\n" for n in range(10_000)]
    after = [line.upper() if n % 10 < 5 else line for n, line in enumerate(before)]
    diff = difflib.unified_diff(before, after, "a/a.txt", "b/a.txt", n=1)
    return {"a.txt": "".join(before), "answer.md": "".join(diff)}, "".join(after)


#: A text whose first word is to be made `max`, and what a model says that follows: over two lines.
PRICES = "sum(prices)\n\n# Adds\n# all prices.\nprices = [1]\n"
FOLLOWS = "prices.py\n<<<<<<< SEARCH\n# Adds\n# all prices.\n=======\n# The largest.\n>>>>>>> REPLACE\n"
FOLLOWED = "max(prices)\n\n# The largest.\nprices = [1]\n"


class EditModel(ChatModel):
    """A model that proposes that."""

    def __init__(self):
        super().__init__(in_turn([FOLLOWS]))

    def settings(self):
        return {"local": {"enabled": False}, "models": {"edit": self.endpoint()}}
