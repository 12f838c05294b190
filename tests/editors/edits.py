"""A workspace of three files, and a model's answer that changes them."""

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
