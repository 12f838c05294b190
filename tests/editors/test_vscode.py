"""The extension in a real VS Code."""

import itertools
import json
import os
import subprocess
import unittest
from pathlib import Path

import docs
import edits
from chat_view import View
from desk import PRICES, Timeout, until
from vscode import EXTENSION, INLINE, Case, installed, node

STORY = "const answer = question.think(6 * 7);"


def story(prefix, _suffix):
    line = prefix.rsplit("\n", 1)[-1]
    return STORY[len(line) :] if STORY.startswith(line) and line else ""


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@installed
class VsCode(Case):
    def test_units(self):
        node("scripts/test.mjs", cwd=EXTENSION, stdout=subprocess.DEVNULL)

    def test_in_its_host_the_extension_has_all_that_it_announces(self):
        options = itertools.count(1)

        def answer(prefix, _suffix):
            if prefix.endswith("~"):
                return f"option{next(options)}"
            return {"=": "1 + 2;", "{": "\n  first(2);\n  second();\n}"}.get(prefix[-1:], "")

        model = self.model(answer)
        script = Path(__file__).resolve().parent / "in_host.cjs"
        for outcome, code in (("succeed", 0), ("fail", 1)):
            with self.subTest(f"told to {outcome}"):
                window = self.window({"a.js": ""}, model, in_host=script, PAIRWRIGHT_IN_HOST=outcome)
                self.assertEqual(window.exit_code(), code, window.logged[-5:])
                window.close()

    def test_a_session(self):
        """One window, because starting one takes long: shown, typed along, taken in parts and in
        whole, dismissed, saved; then the server is killed, and settings change."""
        window = self.window({"a.js": "", "b.js": "\n"}, self.model(story))
        window.open("a.js")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        window.type("const")
        window.wait_ghost(STORY[5:].strip())
        window.looks_as_kept("vscode-ghost")
        until(lambda: self.desk.sent("textDocument/didShowCompletion"), "the server is told")

        with self.subTest("typing along asks nothing and stays on screen"):
            before = self.asked()
            window.type(" answer")
            window.wait_ghost(STORY[12:].strip())
            self.assertEqual(self.asked(), before)

        with self.subTest("a word and then all is taken, and the server told of both"):
            window.press("Control+ArrowRight")
            partly = "textDocument/didPartiallyAcceptCompletion"
            until(lambda: self.desk.sent(partly), "the server is told of the word")
            length = self.desk.sent(partly)[0]["acceptedLength"]
            window.wait_ghost(STORY[length:].strip())
            window.press("Tab")
            until(lambda: self.desk.commands("pairwright.didAcceptCompletion"), "and of all")
            self.assertEqual(window.save("a.js"), STORY)

        with self.subTest("Escape is told as a rejection"):
            window.press("Enter")
            window.type("const")
            window.wait_ghost()
            window.press("Escape")
            until(lambda: self.desk.commands("pairwright.didRejectCompletion"), "the server is told")
            until(lambda: not window.ghost(), "no ghost text")

        def is_started_again(kill):
            n = len(self.desk.server_pids())
            kill()
            until(lambda: len(self.desk.server_pids()) > n, "a new server")
            until(lambda: len(self.desk.sent("initialized")) > n, "the new server is ready")
            window.press("Enter")
            window.type("const")
            window.wait_ghost(STORY[5:].strip())

        with self.subTest("a server that is killed is started again"):
            is_started_again(self.desk.kill_server)

        with self.subTest("one that dies while the user types, too"):

            def die():
                self.desk.cut_editor_off()
                window.type(" ")

            is_started_again(die)

        with self.subTest("settings change while it runs"):
            window.run_command("Pairwright: Switch Ghost Text for This Language")
            languages = {"languages": {"javascript": False}}
            changed = {"settings": {"pairwright": {"complete": languages, "workspace": {"trusted": ["/"]}}}}
            until(lambda: changed in self.desk.sent("workspace/didChangeConfiguration"), "told")

            def owed():
                return self.asked() - len(self.desk.answers(INLINE))

            # The server that was killed owes answers for good.
            lost = owed()

            def is_silent():
                for press in (lambda: window.type("!"), lambda: window.press("Backspace")):
                    before = self.asked()
                    press()
                    # A key at once after this one would take its question back.
                    until(lambda: self.asked() > before, "a question")
                    until(lambda: owed() <= lost, "its answer")
                return self.desk.answers(INLINE)[-1].get("result") == {"items": []}

            window.page.click(".editor-instance .view-lines")
            until(is_silent, "silence")

        self.assertEqual(window.hosts, {"127.0.0.1"})
        self.assertEqual(self.desk.broken(), [])
        only_ours = self.desk.sent("workspace/configuration", "server")
        self.assertTrue(only_ours)

    def test_edits_of_three_files_are_reviewed_and_one_key_takes_them_back(self):
        window = self.window(edits.FILES, self.model(story))

        def disk(name):
            return (self.desk.workspace / name).read_text()

        def lenses():
            return window.page.locator(".codelens-decoration >> text=Accept hunk").count()

        window.open("answer.md")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        window.press("Control+a")
        window.run_command("Pairwright: Propose the Edits of an Answer")
        until(lambda: self.desk.sent("pairwright/diff/changed", "server"), "hunks are there")
        window.page.wait_for_selector("text=/4 hunks in 3 files/")
        window.page.click(".editor-instance .view-lines")

        def press_to(key, name, line):
            def place():
                where = window.page.text_content("#status\\.editor\\.selection")
                tab = window.page.query_selector(".tab.active")
                return tab.get_attribute("data-resource-name"), where or ""

            window.press(key)
            try:
                until(lambda: place()[0] == name and f"Ln {line}," in place()[1], f"{name}:{line}")
            except Timeout as late:
                window.picture("vscode-hunks-late")
                raise Timeout(f"{late}; it is at {place()}") from None

        press_to("Alt+k", "a.txt", 15)
        until(lambda: lenses() == 2, "two hunks have code lenses")
        behind = window.page.evaluate(
            """() => [...document.querySelectorAll('.view-line span')]
              .map(e => getComputedStyle(e, '::after').content).filter(text => text.includes('LINE'))"""
        )
        behind = [text.replace("\u00a0", " ").strip('"') for text in behind]
        self.assertEqual(behind, ["+ LINE 3 … 1 more", "+ LINE 15"])
        window.looks_as_kept("vscode-hunks")
        press_to("Alt+k", "a.txt", 3)
        press_to("Alt+j", "a.txt", 15)
        press_to("Alt+k", "a.txt", 3)
        # What is proposed stands behind the lines, not in the text.
        self.assertEqual(disk("a.txt"), edits.NUMBERS)

        with self.subTest("the first is rejected, and the user types into the file"):
            window.press("Alt+n")
            until(lambda: lenses() == 1, "one is left")
            window.press("Control+End")
            window.type("typed\n")
            until(lambda: self.desk.sent("textDocument/didChange"), "typed")

        with self.subTest("all others are accepted, in a file with unsaved changes too"):
            window.press("Alt+Shift+y")
            until(lambda: disk("b.txt") == "alpha\nBETA\n", "a file that is not open is written")
            until(lambda: disk("c.txt") == "ONE\ntwo\n", "and the next")
            until(lambda: lenses() == 0, "none waits")
            accepted = edits.NUMBERS.replace("line 15\n", "LINE 15\n") + "typed\n"
            self.assertEqual(window.save("a.txt"), accepted)

        with self.subTest("one key takes all back, but not what was typed"):
            window.type("elsewhere")
            window.press("Control+Alt+z")
            until(lambda: disk("b.txt") == edits.OTHER, "taken back")
            until(lambda: disk("c.txt") == edits.THIRD, "both")
            until(lambda: self.desk.answers("workspace/executeCommand")[-1]["result"]["paths"], "answered")
            self.assertEqual(window.save("a.txt"), edits.NUMBERS + "typed\nelsewhere")

        with self.subTest("another does them again"):
            window.press("Control+Alt+Shift+Z")
            until(lambda: disk("b.txt") == "alpha\nBETA\n", "done again")
            until(lambda: disk("c.txt") == "ONE\ntwo\n", "both")
            window.press("Control+Alt+z")
            until(lambda: disk("b.txt") == edits.OTHER, "taken back")
            until(lambda: disk("c.txt") == edits.THIRD, "both")

        with self.subTest("the edits are listed, and one is done again and taken back once more"):
            window.run_command("Pairwright: Edits…", asks=True)

            def stands(as_what):
                row = f".quick-input-list .monaco-list-row:has-text('a.txt, b.txt, c.txt'):has-text('{as_what}')"
                window.page.wait_for_selector(row)

            for before, after, text in (
                ("taken back", "applied", "alpha\nBETA\n"),
                ("applied", "taken back", edits.OTHER),
            ):
                stands(before)
                window.press("Enter")
                until(lambda: disk("b.txt") == text, after)
                stands(after)
            window.press("Escape")
        self.assertEqual(self.desk.broken(), [])

    def test_a_file_is_compared_with_what_is_proposed_and_decided_there(self):
        window = self.window(edits.FILES, self.model(story))
        window.open("answer.md")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        window.press("Control+a")
        window.run_command("Pairwright: Propose the Edits of an Answer")
        window.page.wait_for_selector("text=/4 hunks in 3 files/")
        window.page.click(".editor-instance .view-lines")
        window.press("Alt+k")
        window.wait_at("a.txt:15")
        # In less room the two sides are one.
        window.page.set_viewport_size({"width": 1600, "height": 800})
        window.page.click(".editor-actions [aria-label^='Compare With What Is Proposed']")

        def sides():
            lines = "all => all.map(e => e.textContent.replaceAll('\u00a0', ' '))"
            return [
                window.page.eval_on_selector_all(f".monaco-diff-editor .{side} .view-line", lines)
                for side in ("original", "modified")
            ]

        def is_shown(old, new):
            before, after = sides()
            return old in before and old not in after and new in after and new not in before

        try:
            until(lambda: is_shown("line 15", "LINE 15") and is_shown("line 3", "LINE 3"), "both sides")
        except Timeout as late:
            window.picture("vscode-compare-late")
            raise Timeout(f"{late}; they are {sides()}") from None
        window.looks_as_kept("vscode-compare")

        with self.subTest("what is typed there goes nowhere"):
            window.page.click(".monaco-diff-editor .modified .view-lines")
            window.type("x")
            self.assertFalse(window.page.query_selector(".tab.dirty"))
            self.assertEqual(sides()[0].count("line 15"), 1)

        with self.subTest("a key decides the hunk at the cursor, though it stands lines below its place"):
            window.press("Control+g")
            window.page.wait_for_selector(".quick-input-box input")
            window.page.keyboard.type("16")
            window.page.keyboard.press("Enter")
            window.page.wait_for_selector(".quick-input-widget", state="hidden")
            window.press("Alt+y")
            until(lambda: "LINE 15" in sides()[0], "it is in the file")
            self.assertNotIn("LINE 3", sides()[0])

        with self.subTest("when all are decided the view closes"):
            window.page.click(".editor-actions [aria-label^='Reject All Hunks of This File']")
            window.page.wait_for_selector(".monaco-diff-editor", state="detached")
            window.find("a.txt")
            self.assertEqual(window.save("a.txt"), edits.NUMBERS.replace("line 15\n", "LINE 15\n"))
            self.assertEqual((self.desk.workspace / "b.txt").read_text(), edits.OTHER)
        self.assertEqual(self.desk.broken(), [])

    def test_with_nothing_configured_the_embedded_engine_completes_and_search_answers(self):
        # Or the menu of TypeScript opens now and then.
        quiet = {"editor.suggestOnTriggerCharacters": False, "editor.parameterHints.enabled": False}
        window = self.window({"a.js": PRICES + "\n"}, settings=quiet)
        window.open("a.js")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready()
        window.press("Control+End")
        window.type("export function totalDepth(items) {\n  let")
        window.wait_ghost()
        window.looks_as_kept("vscode-embedded")
        until(lambda: "Embedded engine" in (window.status() or ""), "the status bar tells which engine")

        view = View(window)
        view.open()

        def is_found():
            # The index may still be learning the file.
            n = len(view.texts("#log .answer"))
            view.say("Where is the total weight computed?")
            until(lambda: len(view.texts("#log .answer")) > n, "an answer")
            return "a.js" in view.texts("#log .answer")[-1]

        until(is_found, "search finds the file")
        until(lambda: view.texts("#log .answer .kind"), "the answer says what it is")
        self.assertEqual(set(view.texts("#log .answer .kind")), {"Search, not a model"})
        view.frame.locator("#log .answer a").last.click()
        until(lambda: window.place().startswith("a.js:"), "the place is open")

    def test_hosts_and_files_of_a_workspace_are_not_used_and_its_programs_only_when_it_is_trusted(self):
        trap = self.model(lambda *_: "trapped")
        folder = self.other_folder()
        program = folder / "program"
        program.write_text('#!/bin/sh\necho "$1" >>"$0.ran"\nexec pairwright "$@"\n')
        program.chmod(0o755)
        evil = {
            "pairwright.server.path": str(program),
            "pairwright.models.complete.url": trap.url,
            "pairwright.models.complete.model": "script",
            "pairwright.network.proxy": trap.url,
            "pairwright.log.file": str(folder / "log"),
        }
        files = {"a.js": PRICES + "\n", ".vscode/settings.json": json.dumps(evil)}
        window = self.window(files, trusted=False)

        def has_learnt():
            entries = self.desk.wire()
            (last,) = [n for n, entry in enumerate(entries) if "pid" in entry][-1:]
            told = [e["message"] for e in entries[last:] if e.get("from") == "server"]
            return any(m.get("method") == "didChangeStatus" and not m["params"]["busy"] for m in told)

        def is_silent_about_it(text):
            until(has_learnt, "the server has learnt the file")
            window.press("Control+End")
            window.type(text)
            window.wait_ghost()
            (given,) = self.desk.sent("initialize")[-1:]
            self.assertEqual(set(given["initializationOptions"]), {"workspace"})
            self.assertEqual(trap.asked, [])

        with self.subTest("not trusted"):
            window.open("a.js")
            until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
            is_silent_about_it("export function totalDepth(items) {\n  let")
            self.assertEqual(list(folder.iterdir()), [program])

        with self.subTest("trusted while the window is open"):
            ran = folder / "program.ran"
            window.page.click(".statusbar-item:has-text('Restricted Mode')")
            window.page.click(".workspace-trust-buttons >> text=/^Trust$/")
            until(lambda: ran.exists() and "lsp" in ran.read_text(), "the server is started anew")
            until(lambda: len([pid for pid in self.desk.server_pids() if is_alive(pid)]) == 1, "one lives")
            window.find("a.js")
            window.press("Control+End", *["Backspace"] * 3)
            is_silent_about_it("let")
            self.assertEqual(sorted(folder.iterdir()), [program, ran])

    def test_without_a_server_the_message_says_what_to_do(self):
        window = self.window({"a.js": ""}, elsewhere=self.other_folder() / "pairwright")
        window.page.wait_for_selector("text=/not on PATH.*pairwright.server.path/", timeout=60_000)


if __name__ == "__main__":
    unittest.main()
