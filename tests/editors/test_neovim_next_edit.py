"""The next edit in real Neovims: shown where it is, gone to and made by one key."""

import unittest

from desk import until
from edits import FOLLOWED, PRICES, EditModel
from nvim import Case, in_versions

FILLER = "pass\n" * 60
MAIN = f"total = 1\nprint(total)\n{FILLER}print(total)\n"
USER = "import main\nprint(main.total)\n"

#: What is marked, what would come, and where is pointed to: rows and texts.
MARKS = """
local ns = vim.api.nvim_get_namespaces()['pairwright.next_edit']
local found = {}
for _, mark in ipairs(ns and vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true }) or {}) do
  local row, column, details = mark[2], mark[3], mark[4]
  if details.hl_group then
    local line = vim.api.nvim_buf_get_lines(0, row, row + 1, false)[1]
    table.insert(found, { row, '-' .. line:sub(column + 1, details.end_col) })
  else
    local sign = details.virt_text[1][2] == 'PairwrightAdded' and '+' or ''
    table.insert(found, { row, sign .. details.virt_text[1][1] })
  end
end
return found
"""


class NextEditCase(Case):
    seconds = 60

    def open(self, config=""):
        files = {"main.py": MAIN, "user.py": USER}
        nvim = self.start(files, {"local": {"enabled": False}}, config, "user.py")
        nvim.api.command(f"edit {self.desk.workspace / 'main.py'}")
        until(lambda: len(self.desk.sent("textDocument/didOpen")) == 2, "both files are open")
        return nvim

    def wait_marks(self, *expected):
        marks = [list(mark) for mark in expected]
        self.wait(lambda: self.nvim.lua(MARKS) == marks, f"{marks}")

    def seen(self):
        return f"there are {self.nvim.lua(MARKS)}, {super().seen()}"

    def made(self):
        return len(self.desk.commands("pairwright.didAcceptEdit"))

    def test_a_rename_is_followed_in_sight_out_of_sight_and_in_another_file(self):
        nvim = self.open()
        nvim.type("cwsum<Esc>")
        self.wait_marks((1, "-total"), (1, "+sum"))
        nvim.type("<M-e>")
        until(lambda: nvim.now()["row"] == 1, "the cursor is there")
        self.assertEqual(nvim.now()["lines"][1], "print(total)")
        nvim.type("<M-e>")
        until(lambda: nvim.now()["lines"][1] == "print(sum)", "made")
        self.wait_marks((1, " → line 63: sum"))
        nvim.type("<M-e><M-e>")
        until(lambda: nvim.now()["lines"][62] == "print(sum)", "gone to and made")
        self.wait_marks((62, " → user.py, line 2: sum"))
        nvim.type("<M-e>")
        until(lambda: nvim.now()["lines"][0] == "import main", "the other file")
        self.wait_marks((1, "-total"), (1, "+sum"))
        nvim.type("<M-e>")
        nvim.wait_text("import main\nprint(main.sum)")
        until(lambda: self.made() == 3, "the server is told of each")
        self.wait_marks()
        nvim.type("u")
        nvim.wait_text(USER.rstrip("\n"))
        self.assertEqual(self.desk.broken(), [])

    def test_while_typing_the_same_key_does_it(self):
        nvim = self.open()
        nvim.type("cwsum")
        self.wait_marks((1, "-total"), (1, "+sum"))
        nvim.type("<M-e><M-e>")
        until(lambda: nvim.now()["lines"][1] == "print(sum)", "made")
        self.assertEqual(nvim.now()["mode"], "i")

    def test_what_is_turned_down_is_not_proposed_again(self):
        nvim = self.open()
        nvim.type("cwsum<Esc>")
        self.wait_marks((1, "-total"), (1, "+sum"))
        nvim.type("<M-E>")
        self.wait_marks()
        until(lambda: self.desk.commands("pairwright.didRejectEdit"), "the server is told")
        nvim.type("<M-e>")
        self.wait_said("nothing follows")

    def test_what_a_model_says_may_be_of_several_lines(self):
        model = self.closing(EditModel())
        nvim = self.start({"prices.py": PRICES}, model.settings(), "", "prices.py")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is open")
        nvim.type("cwmax<Esc>")
        self.wait_marks((2, "-Adds"), (3, "+The largest"))
        nvim.type("<M-e>")
        until(lambda: nvim.now()["row"] == 2, "the cursor is there")
        nvim.type("<M-e>")
        nvim.wait_text(FOLLOWED.rstrip("\n"))
        nvim.type("u")
        nvim.wait_text(PRICES.replace("sum", "max", 1).rstrip("\n"))
        self.assertEqual((self.desk.broken(), model.wrong), ([], []))

    def test_it_can_be_switched_off_and_keys_that_are_mapped_stay(self):
        mine = "vim.keymap.set('n', '<M-e>', function() _G.mine = true end)\n"
        nvim = self.open(mine + "vim.g.pairwright = { next_edit = false }\n")
        nvim.type("cwsum<Esc>")
        nvim.type("<M-e>")
        until(lambda: nvim.lua("return _G.mine"), "the user's own mapping")
        self.assertEqual(self.desk.sent("textDocument/copilotInlineEdit"), [])


globals().update(in_versions("NeovimNextEdit", NextEditCase, versions=("0.12", "0.10", "0.7")))

if __name__ == "__main__":
    unittest.main()
