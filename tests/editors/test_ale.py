"""Vim with ALE, with the lines of the documentation: suggestions as items of the completion menu."""

import unittest

import docs
from desk import PREFIX, PRICES, Desk, Terminal, Timed, needs, until

VIM = PREFIX / "vim"
PROGRAM = VIM / "usr/bin/vim.basic"
COMPLETION = "textDocument/completion"

CONFIG = """\
set nocompatible nomodeline noswapfile viminfo=
filetype on
set runtimepath^={ale}
let g:ale_lint_on_text_changed = 'never'
" So that the test hears when the server is ready; what a server does not know it drops.
let s:heard = {{'initialization_options': {{'editorPluginInfo': {{'name': 'test'}}}}}}
"""


@needs(PROGRAM, "vim")
class Ale(Timed, unittest.TestCase):
    def test_a_suggestion_is_an_item_of_the_menu_and_is_taken(self):
        self.desk = self.closing(Desk({"a.js": PRICES + "export function totalDepth(items) {\n  "}))
        (runtime,) = (VIM / "usr/share/vim").glob("vim[0-9]*")
        lines = docs.block("Vim with ALE", "vim")
        self.assertIn("call ale#linter#Define('javascript', {\n", lines)
        lines = lines.replace("#Define('javascript', {\n", "#Define('javascript', extend(s:heard, {\n")
        lines = lines.replace("\n\\})", "\n\\}))")
        vimrc = self.desk.home / ".vimrc"
        vimrc.write_text(CONFIG.format(ale=VIM / "usr/share/vim-ale") + lines)
        terminal = self.closing(Terminal("vim", [PROGRAM, "-u", vimrc, "a.js"], self.desk, VIMRUNTIME=str(runtime)))
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready()
        terminal.keys("G", "A")
        terminal.type("let tot")

        def label():
            items = [item for answer in self.desk.answers(COMPLETION) for item in (answer["result"] or {})["items"]]
            return items and items[-1]["label"]

        shown = until(label, "an item")
        self.assertIn(shown, "let total = 0;")
        terminal.wait_for(f"{shown} v Pairwright")
        terminal.save_screen("ale-menu")
        terminal.keys("C-n", "C-y")
        terminal.keys("Escape")
        terminal.type(":w")
        terminal.keys("Enter")
        terminal.wait_for("written")
        saved = (self.desk.workspace / "a.js").read_text().split("totalDepth")[-1]
        self.assertIn("let total", saved)
        self.assertEqual(self.desk.broken(), [])


if __name__ == "__main__":
    unittest.main()
