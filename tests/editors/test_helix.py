"""Helix in a terminal: suggestions as items of the completion menu."""

import unittest

import docs
from desk import PREFIX, PRICES, Desk, Terminal, limit_time, needs, until
from model import Model

PROGRAM = PREFIX / "helix/usr/lib/hx/hx"
COMPLETION = "textDocument/completion"


@needs(PROGRAM, "helix")
class Helix(unittest.TestCase):
    def setUp(self):
        limit_time(90)
        self.addCleanup(limit_time, 0)

    def open(self, text, model=None, file="a.js"):
        settings = model.settings() if model else {}
        settings["local"] = {"enabled": model is None}
        settings["complete"] = {"deadlineMs": 5000, "debounceMs": 0}
        self.desk = Desk({file: text}, settings)
        self.addCleanup(self.desk.close)
        configuration = self.desk.home / ".config/helix"
        configuration.mkdir(parents=True)
        # The language's own server is not part of the test.
        languages = docs.block("Helix", "toml").replace('  "typescript-language-server",\n', "")
        # So that the test hears when the server is ready; what Helix does not know it drops.
        heard = 'args = ["lsp"]\nconfig = { editorPluginInfo = { name = "test" } }\n'
        self.assertIn('args = ["lsp"]\n', languages)
        languages = languages.replace('args = ["lsp"]\n', heard)
        (configuration / "languages.toml").write_text(languages)
        (configuration / "config.toml").write_text("[editor]\nidle-timeout = 50\nauto-pairs = false\n")
        runtime = PREFIX / "helix/usr/lib/hx/runtime"
        terminal = Terminal("helix", [PROGRAM, file], self.desk, HELIX_RUNTIME=str(runtime))
        self.addCleanup(terminal.close)
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready()
        return terminal

    def saved(self, terminal, file="a.js"):
        terminal.keys("Escape")
        # Escape and a key at once would be another key.
        terminal.wait_for(" NOR ")
        terminal.type(":w")
        terminal.keys("Enter")
        terminal.wait_for("written")
        return (self.desk.workspace / file).read_text()

    def test_a_suggestion_is_an_item_of_the_menu_and_is_taken(self):
        terminal = self.open(PRICES)
        terminal.keys("g", "e", "o")
        terminal.type("export function totalDepth(items) {")
        terminal.keys("Enter")
        terminal.type("  let tot")
        until(lambda: self.desk.answers(COMPLETION), "an answer")
        items = until(
            lambda: (self.desk.answers(COMPLETION)[-1].get("result") or {}).get("items"), "an item"
        )
        text = items[0]["textEdit"]["newText"]
        terminal.wait_for(items[0]["label"])
        terminal.save_screen("helix-menu")
        terminal.keys("C-n", "Enter")
        self.assertIn("  let " + text, self.saved(terminal))

    def test_an_item_of_several_lines_is_taken_as_it_is(self):
        block = "\n  return first + second;\n}"
        model = Model(lambda prefix, _: block if prefix.endswith("{") else "")
        self.addCleanup(model.close)
        terminal = self.open("", model)
        terminal.keys("i")
        terminal.type("function add(first, second) {")
        terminal.keys("C-x")
        terminal.wait_for("…")
        terminal.keys("C-n", "Enter")
        self.assertEqual(self.saved(terminal).rstrip("\n"), "function add(first, second) {" + block)

    def test_commands_of_the_server_are_run_from_the_prompt(self):
        terminal = self.open("")
        terminal.type(":lsp-workspace-command pairwright.snooze")
        terminal.keys("Enter")
        until(lambda: self.desk.commands("pairwright.snooze"), "the server runs it")
        until(
            lambda: self.desk.sent("didChangeStatus", "server")[-1]["kind"] == "Inactive", "it snoozes"
        )


if __name__ == "__main__":
    unittest.main()
