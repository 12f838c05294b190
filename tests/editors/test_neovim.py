"""The Neovim plugin in real Neovims of three generations."""

import itertools
import os
import random
import re
import statistics
import subprocess
import time
import unittest

import docs
from desk import PRICES, Desk, Timed, limit_time, needs, until
from nvim import CONFIG, DOCUMENTED, LINES, PLUGIN, Neovim, in_versions, program
from scripted_model import Model

#: The model of most tests: goes on in the same way wherever it is asked.
STORY = "const answer = question.think(6 * 7);"

INLINE = "textDocument/inlineCompletion"


def story(prefix, _suffix):
    """Completes a line towards STORY."""
    line = prefix.rsplit("\n", 1)[-1]
    return STORY[len(line) :] if STORY.startswith(line) and line else ""


def after_prefix(text, end="="):
    """A model that says `text` wherever the text before the cursor ends in `end`."""
    return lambda prefix, _suffix: text if prefix.endswith(end) else ""


class PluginCase(Timed):
    """Claims that hold in every version."""

    version = ""
    seconds = 60

    def open(self, text="", config="", model=None, files=None, file="a.js", **complete):
        settings = model.settings() if model else {}
        settings["local"] = {"enabled": model is None}
        if model:
            settings["complete"] = {"deadlineMs": 5000, "debounceMs": 0, **complete}
        self.desk = self.closing(Desk({file: text, **(files or {})}, settings))
        self.nvim = self.closing(Neovim(self.desk, self.version, CONFIG + config, file))
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready()
        return self.nvim

    def model(self, answer=story, delay=0.0):
        return self.closing(Model(answer, delay))

    def asked(self):
        return len(self.desk.sent(INLINE))

    # What is shown

    def test_ghost_text_of_the_embedded_engine_is_shown_and_taken_by_tab(self):
        start = "\nexport function totalDepth(items) {\n"
        nvim = self.open(PRICES + start)
        nvim.type("Go  let")
        ghost = nvim.wait_ghost()
        self.assertTrue(" total = 0;".startswith(ghost), ghost)
        self.assertIn("  let" + ghost, nvim.screen())
        nvim.type("<Tab>")
        nvim.wait_text(PRICES + start + "  let" + ghost)
        until(lambda: self.desk.commands("pairwright.didAcceptCompletion"), "the server is told")
        self.assertEqual(len(self.desk.sent("textDocument/didShowCompletion")), 1)
        self.assertEqual(self.desk.broken(), [])
        self.assertEqual(nvim.messages(), "")

    def test_several_lines_are_shown_in_place_and_below_and_tabs_as_wide_as_they_are(self):
        text = "\n\treturn 1;\n}"
        model = self.model(after_prefix(text, "{"))
        nvim = self.open(model=model, config="vim.o.tabstop = 4\n")
        nvim.type("if() {")
        nvim.wait_ghost("\n    return 1;\n}")
        screen = nvim.screen()
        self.assertEqual(screen[:3], ["f() {", "    return 1;", "}"])
        nvim.type("<Tab>")
        nvim.wait_text("f() {" + text)
        now = nvim.now()
        self.assertEqual((now["row"], now["column"]), (2, 1))

    def test_typing_what_is_shown_asks_nothing_and_stays_on_screen(self):
        nvim = self.open(model=self.model())
        nvim.type("iconst")
        nvim.wait_ghost(STORY[5:])
        until(lambda: self.desk.sent("textDocument/didShowCompletion"), "it is told that it is shown")
        before = self.asked()
        for typed in range(6, 20):
            nvim.type(STORY[typed - 1])
            nvim.wait_text(STORY[:typed])
            self.assertEqual(nvim.ghost(), STORY[typed:])
        nvim.type("<BS><BS>")
        nvim.wait_text(STORY[:17])
        self.assertEqual(nvim.ghost(), STORY[17:])
        version = nvim.lua("return vim.b.changedtick")
        told = lambda: self.desk.sent("textDocument/didChange")[-1]["textDocument"]["version"]  # noqa: E731
        until(lambda: told() == version, "all keys are on the wire")
        self.assertEqual(self.asked(), before)
        self.assertEqual(len(self.desk.sent("textDocument/didShowCompletion")), 1)

    def test_another_letter_takes_it_off_the_screen(self):
        nvim = self.open(model=self.model())
        nvim.type("iconst")
        nvim.wait_ghost(STORY[5:])
        nvim.type("!")
        nvim.wait_text("const!")
        self.assertEqual(nvim.ghost(), "")

    def test_leaving_insert_mode_takes_it_off_the_screen(self):
        nvim = self.open(model=self.model())
        nvim.type("iconst")
        nvim.wait_ghost()
        nvim.type("<Esc>")
        until(lambda: nvim.now()["mode"] == "n", "normal mode")
        self.assertEqual(nvim.ghost(), "")

    def test_positions_are_right_behind_characters_of_every_width(self):
        line = "/* 😀 äß 漢字 */ x="
        nvim = self.open(model=self.model(after_prefix("1 + 2;")))
        nvim.type("i" + line)
        nvim.wait_ghost("1 + 2;")
        nvim.type("<Tab>")
        nvim.wait_text(line + "1 + 2;")

    def test_late_answers_are_never_shown(self):
        """Types on for a while with a model slower than the typist."""
        model = self.model(delay=0.12)
        nvim = self.open(model=model)
        nvim.type("i")
        for word in ("const", " answer", " = x", "<BS>question", ".th"):
            for key in [word[:4]] + list(word[4:]) if word.startswith("<") else word:
                nvim.type(key)
                now = nvim.now()
                if now["ghost"]:
                    line = now["lines"][0]
                    self.assertEqual(now["ghost"]["column"], now["column"])
                    self.assertEqual(line + now["ghost"]["text"], STORY)
        nvim.wait_ghost("ink(6 * 7);")
        self.assertGreater(len(self.desk.sent("$/cancelRequest")), 0, "what is overtaken is cancelled")

    # What keys do

    def test_word_and_line_are_taken_piece_by_piece(self):
        text = "\n  first(2);\n  second();\n}"
        nvim = self.open(model=self.model(after_prefix(text, "{")))
        nvim.type("if() {")
        nvim.wait_ghost(text)
        for key, taken in (
            ("<M-Right>", "\n  first"),
            ("<M-Right>", "\n  first("),
            ("<M-C-Right>", "\n  first(2);"),
            ("<M-C-Right>", "\n  first(2);\n  second();"),
            ("<M-Right>", text),
        ):
            nvim.type(key)
            nvim.wait_text("f() {" + taken)
            self.assertEqual(nvim.ghost(), text[len(taken) :])
        partly = "textDocument/didPartiallyAcceptCompletion"
        until(lambda: len(self.desk.sent(partly)) == 4, "the server is told of every piece")
        lengths = [params["acceptedLength"] for params in self.desk.sent(partly)]
        self.assertEqual(lengths, [13, 14, 17, 29])
        until(lambda: self.desk.commands("pairwright.didAcceptCompletion"), "the server is told")

    def test_what_was_taken_is_undone_on_its_own(self):
        nvim = self.open(model=self.model())
        nvim.type("iconst")
        nvim.wait_ghost()
        nvim.type("<Tab>")
        nvim.wait_text(STORY)
        nvim.type("<Esc>u")
        nvim.wait_text("const")

    def test_text_repeated_behind_the_cursor_is_replaced_not_doubled(self):
        nvim = self.open("call()\n", model=self.model(lambda *_: "first, second)"))
        nvim.type("f(a")
        nvim.type("<M-Bslash>")
        nvim.wait_ghost("first, second")
        nvim.type("<Tab>")
        nvim.wait_text("call(first, second)")

    def test_tab_is_a_tab_where_nothing_is_shown(self):
        nvim = self.open(model=self.model(), config="vim.o.expandtab = false\n")
        nvim.type("ixyz<Tab>w")
        nvim.wait_text("xyz\tw")

    def test_tab_belongs_to_an_open_completion_menu_and_nothing_is_shown_over_it(self):
        nvim = self.open("constant\n", model=self.model())
        nvim.type("oconst")
        nvim.wait_ghost()
        nvim.type("<C-n>")
        until(lambda: nvim.api.funcs.pumvisible() or nvim.text() == "constant\nconstant", "menu")
        nvim.wait_no_ghost()

    def test_tab_belongs_to_the_open_menu_of_a_plugin_too(self):
        """The plugins come in no package; this is how they tell of their menus."""
        cmp = "package.loaded.cmp = { event = { on = function(self, name, heard) self[name] = heard end } }\n"
        nvim = self.open(model=self.model(), config=cmp + "vim.o.expandtab = false\n")
        menus = {
            "nvim-cmp": ("package.loaded.cmp.event.menu_opened()", "package.loaded.cmp.event.menu_closed()"),
            "blink.cmp": ("vim.cmd('doautocmd User BlinkCmpMenuOpen')", "vim.cmd('doautocmd User BlinkCmpMenuClose')"),
        }
        for plugin, (opens, closes) in menus.items():
            with self.subTest(plugin):
                nvim.type("<Esc>ccconst")
                nvim.wait_ghost(STORY[5:])
                nvim.lua(opens)
                nvim.wait_no_ghost()
                nvim.type("<Tab>")
                nvim.wait_text("const\t")
                nvim.type("<BS>")
                nvim.lua(closes)
                nvim.wait_ghost(STORY[5:])
                nvim.type("<Tab>")
                nvim.wait_text(STORY)

    def test_a_key_that_is_mapped_stays_as_it_is(self):
        nvim = self.open(
            model=self.model(), config="vim.keymap.set('i', '<Tab>', 'mine')\n"
        )
        nvim.type("iconst")
        nvim.wait_ghost()
        nvim.type("<Tab>")
        nvim.wait_text("constmine")

    def test_other_suggestions_are_a_key_away(self):
        count = [0]

        def numbered(_prefix, _suffix):
            count[0] += 1
            return f"option{count[0]}"

        nvim = self.open("x=\n", model=self.model(numbered))
        nvim.type("A")
        first = nvim.wait_ghost()
        nvim.type("<M-]>")
        second = until(lambda: nvim.ghost() not in ("", first) and nvim.ghost(), "another one")
        nvim.type("<M-[>")
        until(lambda: nvim.ghost() not in ("", second), "the one before")
        nvim.type("<Tab>")
        until(lambda: nvim.text() in (f"x={text}" for text in ("option1", "option2", "option3")), "taken")

    def test_a_key_for_others_behind_one_that_leads_elsewhere_asks_anew(self):
        count = itertools.count(1)
        nvim = self.open("x=\n", model=self.model(lambda *_: f"option{next(count)}"))
        nvim.type("A")
        first = nvim.wait_ghost()
        nvim.type("<M-]>")
        until(lambda: nvim.ghost() not in ("", first), "another one")
        before = self.asked()
        # Both wait when the first is looked at.
        nvim.type("y<M-]>")
        nvim.wait_text("x=y")
        nvim.wait_ghost()
        self.assertGreater(self.asked(), before)
        self.assertEqual(nvim.messages(), "")

    def test_what_is_taken_of_a_text_with_carriage_returns_is_counted_with_them(self):
        text = "\n  first(2);\n  second();\n}"
        nvim = self.open("\r\n", model=self.model(after_prefix(text, "{")))
        self.assertEqual(nvim.lua("return vim.bo.fileformat"), "dos")
        nvim.type("if() {")
        nvim.wait_ghost(text)
        partly = "textDocument/didPartiallyAcceptCompletion"
        for n, key in enumerate(("<M-Right>", "<M-C-Right>", "<M-C-Right>"), 1):
            nvim.type(key)
            until(lambda n=n: len(self.desk.sent(partly)) == n, "the server is told")
        told = self.desk.sent(partly)
        whole = "f() {" + text.replace("\n", "\r\n")
        self.assertEqual(told[0]["item"]["insertText"], whole)
        taken = [whole[: params["acceptedLength"]].replace("\r\n", "\n") for params in told]
        self.assertEqual(taken, ["f() {\n  first", "f() {\n  first(2);", "f() {\n  first(2);\n  second();"])

    def test_tab_belongs_to_a_snippet_that_is_being_filled_in(self):
        if self.version == "0.7":
            self.skipTest("it has no snippets")
        nvim = self.open(model=self.model(after_prefix("1 + 2;")))
        nvim.type("i")
        nvim.lua("vim.snippet.expand('a$1\\nb$2')")
        nvim.type("=")
        nvim.wait_ghost("1 + 2;")
        nvim.type("<Tab>")
        until(lambda: nvim.now()["row"] == 1, "the next place of the snippet")
        nvim.wait_text("a=\nb")

    def test_a_file_that_is_closed_for_good_leaves_nothing_behind(self):
        nvim = self.open(model=self.model(), files={"b.js": ""})
        there = "return (pcall(vim.api.nvim_get_autocmds, { group = 'pairwright.ghost.' .. ... }))"
        nvim.api.command(f"edit {self.desk.workspace / 'b.js'}")
        buf = nvim.api.funcs.bufnr("%")
        until(lambda: nvim.lua(there, buf), "it is attached")
        nvim.api.command("bwipeout")
        self.assertFalse(nvim.lua(there, buf))

    def test_dismissing_is_told_to_the_server(self):
        nvim = self.open(model=self.model())
        nvim.type("iconst")
        nvim.wait_ghost()
        nvim.type("<C-]>")
        nvim.wait_no_ghost()
        until(lambda: self.desk.commands("pairwright.didRejectCompletion"), "the server is told")

    # Commands and states

    def test_snooze_switches_and_status(self):
        nvim = self.open(model=self.model())
        line = "require('pairwright.status').line()"
        nvim.type("iconst")
        nvim.wait_ghost()
        nvim.type("<Esc>")
        until(lambda: nvim.lua("return " + line) == "pw", "all is well")
        nvim.api.command("Pairwright snooze 5")
        until(lambda: nvim.lua("return " + line) == "pw –", "snoozed")
        before = self.asked()
        nvim.type("A ")
        until(lambda: self.asked() > before, "asked")
        nvim.type("<BS>")
        until(lambda: self.desk.answers(INLINE)[-1].get("result") in (None, {"items": []}), "silence")
        self.assertEqual(nvim.ghost(), "")
        nvim.type("<Esc>")
        nvim.api.command("Pairwright resume")
        until(lambda: nvim.lua("return " + line) == "pw", "resumed")
        nvim.api.command("Pairwright disable")
        before = self.asked()
        nvim.type("A <BS><Esc>")
        until(lambda: nvim.now()["mode"] == "n", "normal mode")
        self.assertEqual(self.asked(), before)
        nvim.api.command("Pairwright enable")
        nvim.type("A <BS>")
        nvim.wait_ghost(STORY[5:])

    def test_a_language_is_switched_off_while_the_server_runs(self):
        nvim = self.open(model=self.model())
        nvim.api.command("Pairwright language")
        nvim.type("iconst")

        def is_silent():
            before = self.asked()
            # One after the other: a text that is as it was keeps what is shown, and asks nobody.
            nvim.type("!")
            until(lambda: self.asked() > before, "asked")
            nvim.type("<BS>")
            until(lambda: self.asked() > before + 1, "asked again")
            until(lambda: len(self.desk.answers(INLINE)) == self.asked(), "answers")
            return self.desk.answers(INLINE)[-1].get("result") == {"items": []}

        # The server puts settings in force in its own time.
        until(is_silent, "silence")
        self.assertEqual(nvim.ghost(), "")
        nvim.type("<Esc>")
        nvim.api.command("Pairwright language")
        nvim.type("A <BS>")
        nvim.wait_ghost(STORY[5:])

    def test_a_server_that_is_killed_is_started_again_and_one_that_is_restarted_too(self):
        # Neovim's own message about it may be too long for a line, and wait for a key.
        quiet = "vim.notify = function() end\n"
        nvim = self.open(model=self.model(), config=quiet)
        self.desk.kill_server()
        until(lambda: len(self.desk.sent("textDocument/didOpen")) == 2, "opened at a new server")
        nvim.type("iconst")
        nvim.wait_ghost(STORY[5:])
        nvim.type("<Esc>")
        nvim.api.command("Pairwright restart")
        until(lambda: len(self.desk.sent("textDocument/didOpen")) == 3, "opened at a third server")
        nvim.type("A <BS>")
        nvim.wait_ghost(STORY[5:])

    def test_a_file_that_is_read_again_stays_with_the_server(self):
        nvim = self.open("const x\n", model=self.model())
        nvim.api.command("edit!")
        until(lambda: len(self.desk.sent("textDocument/didOpen")) == 2, "opened again")
        nvim.type("ccconst")
        nvim.wait_ghost(STORY[5:])

    def test_what_is_sent_is_shown_on_demand(self):
        nvim = self.open("const x\n", model=self.model())
        nvim.type("gg$")
        nvim.api.command("Pairwright sent")
        until(lambda: "script" in nvim.text() and "/v1/completions" in nvim.text(), "the request")
        nvim.api.command("bwipe")
        nvim.api.command("Pairwright metrics")
        until(lambda: "acceptRate" in nvim.text() or "requested" in nvim.text(), "the metrics")

    def test_checkhealth_tells_what_is_there_and_what_is_missing(self):
        nvim = self.open(model=self.model())
        nvim.api.command("checkhealth pairwright")
        until(lambda: "Server for" in nvim.text(), "the report")
        report = nvim.text()
        self.assertIn("pairwright 0.", report)
        self.assertNotIn("ERROR", report.replace("ERROR:", "ERROR"))
        # A message of several lines would wait for a key.
        broken = "vim.notify = function() end\nvim.g.pairwright = { cmd = { 'no-such-program' }, gohst = 'off' }\n"
        desk = self.closing(Desk({"b.txt": ""}))
        other = self.closing(Neovim(desk, self.version, CONFIG + broken, "b.txt"))
        other.api.command("checkhealth pairwright")
        until(lambda: "no-such-program" in other.text(), "the report")
        self.assertIn("`gohst` is not a setting", other.text())

    # Numbers

    def test_ghost_text_is_there_soon_after_the_key(self):
        model = self.model(after_prefix("1 + 2;"))
        nvim = self.open(model=model)
        nvim.lua(
            """_G.times = {}
            local draw = require('pairwright.draw')
            local show, clock = draw.show, vim.loop.hrtime
            draw.show = function(...)
              show(...)
              if _G.typed then table.insert(_G.times, (clock() - _G.typed) / 1e6) end
              _G.typed = nil
            end
            vim.api.nvim_create_autocmd('InsertCharPre', {
              callback = function() if vim.v.char == '=' then _G.typed = clock() end end,
            })"""
        )
        nvim.type("i")
        row = 0
        for milliseconds, promised in ((30, 60), (120, 200)):
            model.delay = milliseconds / 1000
            nvim.lua("_G.times = {}")
            for n in range(40):
                row += 1
                nvim.type(f"x{n % 10}=")
                nvim.wait_ghost("1 + 2;")
                nvim.type("<CR>")
                until(lambda: nvim.now()["row"] == row, "the next line")
            times = sorted(nvim.lua("return _G.times"))
            middle, last = statistics.median(times), times[-1]
            report = f"neovim {self.version}: key to ghost text, model {milliseconds} ms: "
            print(f"{report}p50 {middle:.1f}, max {last:.1f} ms, n {len(times)}", flush=True)
            # A machine that tests is busy; where it is measured on purpose, it is held to its promise.
            if "PAIRWRIGHT_KEYS" in os.environ:
                self.assertLess(middle, promised)

    def test_a_key_costs_the_plugin_less_than_a_millisecond(self):
        nvim = self.open(PRICES * 20, model=self.model())
        worst = nvim.lua(
            """local clock = vim.loop.hrtime
            vim.cmd('normal! G')
            local times = {}
            local events = { 'TextChangedI', 'CursorMovedI' }
            for n = 1, 300 do
              vim.api.nvim_buf_set_lines(0, -2, -1, false, { ('x'):rep(n % 50) })
              vim.api.nvim_win_set_cursor(0, { vim.fn.line('$'), 0 })
              local begun = clock()
              vim.api.nvim_exec_autocmds(events, { buffer = 0 })
              table.insert(times, (clock() - begun) / 1e6)
            end
            table.sort(times)
            return { times[150], times[297] }"""
            if self.version != "0.7"
            else """local clock = vim.loop.hrtime
            local times = {}
            for n = 1, 300 do
              vim.api.nvim_buf_set_lines(0, -2, -1, false, { ('x'):rep(n % 50) })
              local begun = clock()
              vim.cmd('doautocmd <nomodeline> TextChangedI')
              table.insert(times, (clock() - begun) / 1e6)
            end
            table.sort(times)
            return { times[150], times[297] }"""
        )
        print(f"neovim {self.version}: work per key: p50 {worst[0]:.3f}, p99 {worst[1]:.3f} ms", flush=True)
        if "PAIRWRIGHT_KEYS" in os.environ:
            self.assertLess(worst[1], 1)


class Typist:
    """A seeded typist who types, takes, deletes and moves at random."""

    SEQUENCES = int(os.environ.get("PAIRWRIGHT_SEQUENCES", "100"))

    def test_nothing_stale_or_doubled_is_ever_shown_or_taken(self):
        limit_time(60 + self.SEQUENCES)
        words = ["alpha", "beta", "gamma", "delta"]
        sentence = "alpha beta gamma delta epsilon"

        def goes_on(prefix, _suffix):
            for length in range(min(len(prefix), len(sentence)), 0, -1):
                if prefix.endswith(sentence[:length]):
                    return sentence[length:]
            return ""

        model = self.model(goes_on, delay=0.01)
        nvim = self.open(model=model)
        dice = random.Random(int(self.version.replace(".", "")))
        nvim.type("i")
        mirror, shown, taken, dismissed = "", 0, 0, ""
        for step in range(self.SEQUENCES):
            kind = dice.random()
            if kind < 0.45:
                word = dice.choice(words)
                keys = word[: dice.randint(1, len(word))] + dice.choice(["", " "])
                nvim.type(keys)
                mirror += keys
            elif kind < 0.55 and mirror and not mirror.endswith("\n"):
                nvim.type("<BS>")
                mirror = mirror[:-1]
            elif kind < 0.6:
                nvim.type("<CR>")
                mirror += "\n"
            else:
                nvim.wait_text(mirror)
                if mirror != dismissed and len(goes_on(mirror, "")) > 3:
                    # Shorter ones are not worth showing, says the server.
                    until(lambda: nvim.ghost(), f"ghost text after {mirror[-20:]!r}")
                now = nvim.now()
                text = now["ghost"]["text"] if now["ghost"] else ""
                if text:
                    self.assertEqual(goes_on(mirror, ""), text, f"step {step}")
                    shown += 1
                    key, part = dice.choice([("<Tab>", "all"), ("<M-Right>", "word"), ("<C-]>", "none")])
                    nvim.type(key)
                    if part == "all":
                        mirror += text
                    elif part == "word":
                        mirror += re.match(r"\s*\w+", text).group()
                    else:
                        dismissed = mirror
                    taken += part != "none"
            if dice.random() < 0.5:
                nvim.wait_text(mirror)
                now = nvim.now()
                if now["ghost"]:
                    shown += 1
                    self.assertEqual(now["column"], now["ghost"]["column"], f"step {step}")
                    self.assertEqual(now["row"], now["ghost"]["row"], f"step {step}")
                    self.assertEqual(goes_on(mirror, ""), now["ghost"]["text"], f"step {step}")
        nvim.wait_text(mirror)
        self.assertGreater(shown, self.SEQUENCES // 40)
        self.assertGreater(taken, self.SEQUENCES // 40)


@needs(program("0.12"), "neovim-0.12")
class Settings(Timed, unittest.TestCase):
    def test_the_documented_lines_are_enough_for_a_model(self):
        lines = docs.block("Install", "lua", page=docs.NEOVIM)
        self.assertEqual(lines, LINES)
        self.assertIn(DOCUMENTED, lines)
        model = self.closing(Model(lambda prefix, _: "1 + 2;" if prefix.endswith("=") else ""))
        more = docs.block("More", "lua", page=docs.NEOVIM)
        self.assertIn("http://localhost:8080", more)
        desk = self.closing(Desk({"a.js": ""}))
        config = more.replace("http://localhost:8080", model.url) + CONFIG
        nvim = self.closing(Neovim(desk, "0.12", config, "a.js"))
        desk.wait_ready()
        nvim.type("ix=")
        nvim.wait_ghost("1 + 2;")

    def test_what_vim_lsp_config_says_is_in_force_with_and_without_neovims_own_start(self):
        for more in ("", "vim.lsp.enable('pairwright')\n"):
            with self.subTest(more):
                desk = self.closing(Desk({"part/.marker": "", "part/b.js": ""}))
                program = desk.folder / "server"
                (desk.programs / "pairwright").rename(program)
                changes = f"{{ cmd = {{ '{program}', 'lsp' }}, root_markers = {{ '.marker' }} }}"
                config = f"{CONFIG}vim.lsp.config('pairwright', {changes})\n{more}"
                nvim = self.closing(Neovim(desk, "0.12", config, "part/b.js"))
                desk.wait_ready()
                roots = nvim.lua("return vim.tbl_map(function(c) return c.config.root_dir end, vim.lsp.get_clients())")
                self.assertEqual(roots, [str(desk.workspace / "part")])
                self.assertEqual(len(desk.server_pids()), 1)
                nvim.api.command("checkhealth pairwright")
                until(lambda: "Server for" in nvim.text(), "the report")
                self.assertNotIn("ERROR", nvim.text())

    def test_their_types_are_those_of_the_schema(self):
        script = PLUGIN / "scripts/settings.lua"
        done = subprocess.run([program("0.12"), "-l", script, "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)


globals().update(in_versions("Neovim", PluginCase, Typist, versions=("0.12", "0.10", "0.7")))

if __name__ == "__main__":
    unittest.main()
