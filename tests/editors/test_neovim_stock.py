"""Neovim 0.12 as it comes, with the lines of the documentation and no plugin of ours."""

import unittest

import docs
from desk import PRICES, Desk, Timed, needs, until
from nvim import PLUGIN, Neovim, program
from scripted_model import Model

INLINE = "textDocument/inlineCompletion"


class Stock(Neovim):
    namespace = "nvim.lsp.inline_completion"


@needs(program("0.12"), "neovim-0.12")
class NeovimStock(Timed, unittest.TestCase):
    seconds = 60

    def open(self, text, model=None, config=None):
        settings = model.settings() if model else {}
        settings["local"] = {"enabled": model is None}
        settings["complete"] = {"deadlineMs": 5000, "debounceMs": 0}
        self.desk = self.closing(Desk({"a.js": text}, settings))
        config = config or docs.block("Neovim 0.12 without a plugin", "lua")
        config += "vim.cmd('filetype plugin indent off')\nvim.cmd('filetype on')\n"
        self.nvim = self.closing(Stock(self.desk, "0.12", config, "a.js"))
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready(self.ask_status)
        return self.nvim

    def ask_status(self):
        """Asks as a user's own lines would; this Neovim takes no notice of the server's."""
        return self.nvim.lua(
            """local client = vim.lsp.get_clients({ name = 'pairwright' })[1]
            return client:request_sync('pairwright/status/get', vim.empty_dict(), 5000).result"""
        )

    def test_ghost_text_is_shown_and_taken_by_tab_and_the_server_is_told(self):
        nvim = self.open(PRICES)
        nvim.type("Goexport function totalDepth(items) {<CR>  let")
        ghost = nvim.wait_ghost()
        self.assertIn("  let" + ghost, nvim.screen())
        nvim.type("<Tab>")
        nvim.wait_text(PRICES + "export function totalDepth(items) {\n  let" + ghost)
        until(lambda: self.desk.commands("pairwright.didAcceptCompletion"), "the server is told")

    def test_the_lines_of_the_front_page_show_ghost_text(self):
        nvim = self.open(PRICES, config=docs.block("Use it", "lua", page=docs.FRONT))
        nvim.type("Goexport function totalDepth(items) {<CR>  let")
        nvim.wait_ghost()

    def test_tab_is_a_tab_where_nothing_is_shown(self):
        nvim = self.open("")
        nvim.type("izyx<Tab>w")
        nvim.wait_text("zyx\tw")

    def test_what_no_longer_fits_goes_away_with_the_next_answer_and_cannot_be_taken(self):
        model = self.closing(Model(lambda prefix, _: "1 + 2;" if prefix.endswith("=") else ""))
        nvim = self.open("", model)
        nvim.type("ix=")
        nvim.wait_ghost("1 + 2;")
        nvim.type("y")
        until(lambda: self.desk.answers(INLINE)[-1].get("result") == {"items": []}, "an empty answer")
        nvim.wait_no_ghost()
        nvim.type("<Tab>")
        nvim.wait_text("x=y\t")

    def test_a_slow_model_never_leaves_an_old_answer_over_newer_text(self):
        """This Neovim shows every answer it gets, however old the question: the server must not
        give one to a question that was overtaken."""
        model = self.closing(Model(lambda prefix, _: "<" + prefix[-3:] + ">", delay=0.5))
        nvim = self.open("", model)
        nvim.type("i")
        for n in range(1, 4):
            nvim.type("ab=")
            until(lambda n=n: len(self.desk.sent(INLINE)) >= n, f"question {n}")
            ghost = nvim.ghost()
            self.assertIn(ghost, ("", "<ab=>"))
        nvim.wait_ghost("<ab=>")
        given = [a["result"] for a in self.desk.answers(INLINE) if a.get("result")]
        self.assertEqual(len(given), 1, given)

    def test_the_documented_lines_for_a_model_are_enough(self):
        model = self.closing(Model(lambda prefix, _: "1 + 2;" if prefix.endswith("=") else ""))
        nvim = self.open("")
        path = self.desk.home / ".config/pairwright/config.toml"
        lines = docs.block("", "toml")
        self.assertIn("http://localhost:8080", lines)
        path.write_text(lines.replace("http://localhost:8080", model.url))
        until(
            lambda: model.url in self.ask_status()["message"],
            "the server follows its settings file",
        )
        nvim.type("ix=")
        nvim.wait_ghost("1 + 2;")

    def test_our_plugin_can_leave_the_drawing_to_neovim(self):
        config = (
            f"vim.opt.runtimepath:append('{PLUGIN}')\n"
            "vim.g.pairwright = { ghost = 'native' }\n"
        )
        nvim = self.open(PRICES, config=config)
        nvim.type("Goexport function totalDepth(items) {<CR>  let")
        ghost = nvim.wait_ghost()
        nvim.type("<Tab>")
        nvim.wait_text(PRICES + "export function totalDepth(items) {\n  let" + ghost)


if __name__ == "__main__":
    unittest.main()
