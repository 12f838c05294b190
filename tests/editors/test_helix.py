"""Helix in a terminal: suggestions as items of the completion menu, chat and tasks by code actions."""

import re
import sys
import unittest
from pathlib import Path

import docs
from desk import PREFIX, PRICES, Desk, Terminal, Timed, needs, until
from scripted_model import ChatModel, Model, call, in_turn

HERE = Path(__file__).resolve().parent
PROGRAM = PREFIX / "helix/usr/lib/hx/hx"
COMPLETION = "textDocument/completion"

NUMBERS = """\
// TODO: shout the first and the last
const first = 'one';
const second = 'two';
const third = 'three';
"""

#: What the model does in a task: two edits, a command that is asked for, the end.
TASK = (
    [
        call("edit", path="a.js", oldString="'one'", newString="'ONE'"),
        call("edit", path="a.js", oldString="'three'", newString="'THREE'"),
    ],
    [call("run", command="touch asked")],
    [call("finish", summary="Two lines shout.", succeeded=True)],
)


@needs(PROGRAM, "helix")
class Helix(Timed, unittest.TestCase):
    def open(self, text, model=None, file="a.js", beside=()):
        """`beside` are items of the language's own server, which otherwise is none."""
        settings = model.settings() if model else {}
        hears = not isinstance(model, ChatModel)
        settings["local"] = {"enabled": model is None}
        settings["complete"] = {"deadlineMs": 5000, "debounceMs": 0}
        self.desk = self.closing(Desk({file: text}, settings))
        configuration = self.desk.home / ".config/helix"
        configuration.mkdir(parents=True)
        own = '  "typescript-language-server",\n'
        languages = docs.block("Helix", "toml").replace(own, own if beside else "")
        if beside:
            command = [sys.executable, str(HERE / "other_server.py"), *beside]
            name = own.strip(' ",\n')
            languages += f"\n[language-server.{name}]\ncommand = {command[0]!r}\nargs = {command[1:]!r}\n"
        # So that the test hears when the server is ready; what Helix does not know it drops.
        heard = 'args = ["lsp"]\nconfig = { editorPluginInfo = { name = "test" } }\n'
        self.assertIn('args = ["lsp"]\n', languages)
        if hears:
            languages = languages.replace('args = ["lsp"]\n', heard)
        (configuration / "languages.toml").write_text(languages)
        (configuration / "config.toml").write_text("[editor]\nidle-timeout = 50\nauto-pairs = false\n")
        runtime = PREFIX / "helix/usr/lib/hx/runtime"
        terminal = self.closing(Terminal("helix", [PROGRAM, file], self.desk, HELIX_RUNTIME=str(runtime)))
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        if hears:
            self.desk.wait_ready()
        return terminal

    def open_chat(self, script):
        model = self.closing(ChatModel(script))
        return self.open(NUMBERS, model), model

    def act(self, terminal, title):
        """Chooses a code action of what is selected."""
        terminal.keys("Space")
        terminal.keys("a")
        screen = terminal.wait_for(title)
        rows = screen.split("\n")
        first = min(n for n, row in enumerate(rows) if " with Pairwright" in row or "hunk" in row)
        (at,) = [n for n, row in enumerate(rows) if row.rstrip().endswith(title)]
        # The first one is chosen already.
        terminal.keys(*["C-n"] * (at - first), "Enter")
        until(lambda: title not in terminal.screen(), "the menu is closed")

    def go_to(self, terminal, line):
        """Selects a line, from 1, in normal mode."""
        terminal.wait_for(" NOR ")
        terminal.keys("g", "g", *["j"] * (line - 1), "x")
        # What is selected ends behind the first column.
        until(lambda: re.search(rf" {line}:(?!1 )\d+ *$", terminal.screen(), re.M), f"line {line}")

    def insert(self, terminal, keys, text):
        """Opens a line by `keys` in normal mode, types, and returns to it."""
        terminal.wait_for(" NOR ")
        terminal.keys(*keys)
        terminal.wait_for(" INS ")
        terminal.type(text)
        terminal.wait_for(text)
        terminal.keys("Escape")
        # Escape and a key at once would be another key.
        terminal.wait_for(" NOR ")

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

    def test_items_come_after_those_of_another_server_and_each_is_taken_as_it_is(self):
        model = self.closing(Model(lambda prefix, _: "al(prices) / 2;" if prefix.endswith("tot") else ""))
        terminal = self.open("", model, beside=["total", "totalTax"])
        taken = ["total", "totalTax", "total(prices) / 2;"]
        for n, text in enumerate(taken):
            terminal.wait_for(" NOR ")
            terminal.keys("g", "e", "o" if n else "i")
            terminal.wait_for(" INS ")
            terminal.type(f"const x{n} = tot")
            # Each server's come at their own time.
            terminal.wait_for("total(prices) / 2; text")
            screen = terminal.wait_for("totalTax           variable")
            self.assertLess(screen.index("totalTax           variable"), screen.index("total(prices) / 2; text"), screen)
            terminal.keys(*["C-n"] * (n + 1), "Enter")
            terminal.wait_for(f"const x{n} = {text}")
            until(lambda: "  variable" not in terminal.screen(), "the menu is closed")
            terminal.keys("Escape")
        lines = [f"const x{n} = {text}" for n, text in enumerate(taken)]
        self.assertEqual(self.saved(terminal).split("\n")[: len(lines)], lines)

    def test_an_item_of_several_lines_is_taken_as_it_is(self):
        block = "\n  return first + second;\n}"
        model = self.closing(Model(lambda prefix, _: block if prefix.endswith("{") else ""))
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

    def test_code_is_explained_in_a_document_of_its_own(self):
        terminal, model = self.open_chat(in_turn(["It is a \x1b]0;owned\x07constant, see a.js:2."]))
        self.go_to(terminal, 2)
        self.act(terminal, "Explain with Pairwright")
        # This editor would hand it to the terminal as it is.
        screen = terminal.wait_for("It is a \\u{1b}]0;owned\\u{7}constant, see a.js:2.")
        self.assertIn("- [a.js:2](file:///", screen)
        terminal.save_screen("helix-explained")
        self.assertIn("const first = 'one';", str(model.asked[0]["messages"][-1]["content"]))

    def test_a_task_is_begun_asked_for_reviewed_with_one_hunk_rejected_and_taken_back(self):
        terminal, model = self.open_chat(in_turn(*TASK))
        self.go_to(terminal, 1)
        self.act(terminal, "Do what the TODO says with Pairwright")
        terminal.wait_for("Do you trust")
        terminal.keys("Enter")
        terminal.wait_for("The task wants to run `touch asked`")
        terminal.save_screen("helix-asked")
        terminal.keys("Enter")
        terminal.wait_for("Task succeeded: Two lines shout.")
        asked = self.desk.sent("window/showMessageRequest", "server")
        self.assertEqual([ask["actions"][0]["title"] for ask in asked], ["Trust", "Allow once"])
        self.assertNotIn("denied", str(model.asked[2]["messages"][-1]))
        self.assertEqual((self.desk.workspace / "a.js").read_text(), NUMBERS)
        self.go_to(terminal, 2)
        self.act(terminal, "Accept hunk")
        terminal.wait_for("'ONE'")
        self.go_to(terminal, 4)
        self.act(terminal, "Reject hunk")
        until(lambda: len(self.desk.commands("pairwright.rejectHunk")) == 1, "it is rejected")
        # Typed since, above and below.
        self.insert(terminal, "ggjO", "above()")
        self.insert(terminal, "geo", "below()")
        self.go_to(terminal, 3)
        self.act(terminal, "Undo last Pairwright edit")
        terminal.wait_for("'one'")
        todo, rest = NUMBERS.split("\n", 1)
        self.assertEqual(self.saved(terminal), f"{todo}\nabove()\n{rest}below()\n")

    def test_a_task_is_begun_from_the_prompt_and_a_question_that_is_closed_is_no(self):
        terminal, model = self.open_chat(in_turn(*TASK))
        terminal.wait_for(" NOR ")
        terminal.type(docs.block("Helix", "text").strip())
        terminal.keys("Enter")
        terminal.wait_for("Do you trust")
        terminal.keys("Enter")
        terminal.wait_for("The task wants to run `touch asked`")
        terminal.keys("Escape")
        terminal.wait_for("Task succeeded")
        self.assertEqual(self.desk.commands("pairwright.task.start"), [[{"prompt": "Rename area to surface."}]])
        self.assertIn("touch asked", str(model.asked[2]["messages"][-1]))


if __name__ == "__main__":
    unittest.main()
