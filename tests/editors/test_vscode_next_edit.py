"""The next edit in a real VS Code."""

import unittest

from desk import until
from edits import FOLLOWED, PRICES, EditModel
from vscode import Case, installed

MAIN = "total = 1\nprint(total)\n" + "pass\n" * 80 + "print(total)\n"
USER = "import main\nprint(main.total)\n"
#: The new text, or a pointer, as it stands behind the text.
BEHIND = """() => [...document.querySelectorAll('.view-line span')]
  .map(e => getComputedStyle(e, '::after').content)
  .filter(text => text !== 'none' && text !== 'normal')"""


@installed
class NextEdit(Case):
    def behind(self, window):
        return [text.replace("\u00a0", " ").strip('"') for text in window.page.evaluate(BEHIND)]

    def rename_first(self, window, to, proposed):
        """Renames the first word of the file, and waits for what is `proposed` then."""
        window.press("Control+Home", "Control+Shift+ArrowRight")
        window.type(to)
        until(lambda: proposed in self.behind(window), "the next edit")

    def test_a_rename_is_followed_by_one_key_and_escape_turns_it_down(self):
        settings = {"pairwright.local.enabled": False}
        window = self.window({"main.py": MAIN, "user.py": USER}, settings=settings)
        window.open("user.py")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the server knows of one")
        # Of the other it is told with the first change.
        window.find("main.py")
        self.rename_first(window, "sum", "sum")
        window.looks_as_kept("vscode-next-edit")
        window.press("Tab")
        window.wait_at("main.py:2")
        window.press("Tab")
        until(lambda: "→ line 83: sum" in self.behind(window), "made, and the next is pointed to")
        window.press("Tab")
        window.wait_at("main.py:83")
        window.press("Tab")
        made = MAIN.replace("total", "sum")
        until(lambda: any("user.py, line 2" in text for text in self.behind(window)), "another file")
        self.assertEqual(window.save("main.py"), made)
        self.assertEqual(len(self.desk.commands("pairwright.didAcceptEdit")), 2)
        window.press("Tab")
        window.wait_at("user.py:2")
        until(lambda: "sum" in self.behind(window), "it is drawn there")
        window.press("Escape")
        until(lambda: self.desk.commands("pairwright.didRejectEdit"), "turned down")
        until(lambda: self.behind(window) == [], "it is gone")
        # The key means again what it did.
        window.press("Control+Home", "Tab")
        self.assertEqual(window.save("user.py").lstrip(), USER)
        self.assertEqual(self.desk.broken(), [])

    def test_what_a_model_says_may_be_of_several_lines(self):
        model = self.closing(EditModel())
        window = self.window({"prices.py": PRICES}, model=model)
        window.open("prices.py")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the server knows of it")
        self.rename_first(window, "max", "The largest")
        window.press("Tab")
        window.wait_at("prices.py:3")
        window.press("Tab")
        until(lambda: self.desk.commands("pairwright.didAcceptEdit"), "made")
        self.assertEqual(window.save("prices.py"), FOLLOWED)
        self.assertEqual((self.desk.broken(), model.wrong), ([], []))


if __name__ == "__main__":
    unittest.main()
