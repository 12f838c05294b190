"""The Neovim plugin in real Neovims of three generations."""

import signal
import unittest

from desk import PRICES, Desk, needs, until
from model import Model
from nvim import PLUGIN, Neovim, program

#: Indentation is off so that keys mean what they say.
CONFIG = f"vim.opt.runtimepath:append('{PLUGIN}')\nvim.cmd('filetype indent off')\n"

#: The model of most tests: goes on in the same way wherever it is asked.
STORY = "const answer = question.think(6 * 7);"


def story(prefix, _suffix):
    """Completes a line towards STORY."""
    line = prefix.rsplit("\n", 1)[-1]
    return STORY[len(line) :] if STORY.startswith(line) and line else ""


class PluginCase:
    """Claims that hold in every version."""

    version = ""

    def setUp(self):
        signal.alarm(120)
        self.addCleanup(signal.alarm, 0)

    def open(self, text="", config="", model=None, files=None, file="a.js"):
        settings = model.settings() if model else {}
        settings.setdefault("local", {})["enabled"] = model is None
        if model:
            settings["complete"] = {"deadlineMs": 5000, "debounceMs": 0}
        self.desk = Desk({file: text, **(files or {})}, settings)
        self.addCleanup(self.desk.close)
        self.nvim = Neovim(self.desk, self.version, CONFIG + config, file)
        self.addCleanup(self.nvim.close)
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready()
        return self.nvim

    def model(self, answer=story, delay=0.0):
        model = Model(answer, delay)
        self.addCleanup(model.close)
        return model

    def test_ghost_text_of_the_embedded_engine_is_shown_and_taken_by_tab(self):
        start = "\nexport function totalDepth(items) {\n"
        nvim = self.open(PRICES + start)
        nvim.type("Go  let")
        ghost = nvim.wait_ghost(" total = 0;")
        nvim.type("<Tab>")
        nvim.wait_text(PRICES + start + "  let" + ghost)
        until(lambda: self.desk.commands("pairwright.didAcceptCompletion"), "the server is told")
        self.assertEqual(len(self.desk.sent("textDocument/didShowCompletion")), 1)

    def test_typing_what_is_shown_asks_nothing_and_stays_on_screen(self):
        nvim = self.open(model=self.model())
        nvim.type("iconst")
        nvim.wait_ghost(STORY[5:])
        before = len(self.desk.sent("textDocument/inlineCompletion"))
        for typed in range(6, 20):
            nvim.type(STORY[typed - 1])
            nvim.wait_text(STORY[:typed])
            self.assertEqual(nvim.ghost(), STORY[typed:])
        self.assertEqual(len(self.desk.sent("textDocument/inlineCompletion")), before)


for version in ("0.12", "0.10", "0.7"):
    name = f"Neovim{version.replace('.', '_')}"
    case = type(name, (PluginCase, unittest.TestCase), {"version": version})
    globals()[name] = needs(program(version), f"neovim-{version}")(case)
del case

if __name__ == "__main__":
    unittest.main()
