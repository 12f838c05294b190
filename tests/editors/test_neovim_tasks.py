"""Tasks in real Neovims: asked for, watched, decided hunk by hunk, taken back, cut off and resumed."""

import re
import unittest

from desk import TOOLS
from edits import NUMBERS
from nvim import SELECT, Case, in_versions
from scripted_model import ChatModel, Gate, begin_call, call, go_on, in_turn

#: The text of the task's buffer, wherever it is.
TASK = """
for _, buf in ipairs(vim.api.nvim_list_bufs()) do
  if vim.api.nvim_buf_get_name(buf):match('^pairwright://task/') then
    return table.concat(vim.api.nvim_buf_get_lines(buf, 0, -1, false), '\\n')
  end
end
return ''
"""

#: What is asked for is written by the test, with `write(text)`.
INPUT = """
vim.ui.input = function(options, done) _G.input = options.prompt; _G.write = done end
"""

ITEMS = [{"text": "Change two lines.", "state": "in_progress"}, {"text": "Look at it.", "state": "pending"}]
PLAN = call("plan", items=ITEMS)
FIRST = call("edit", path="a.txt", oldString="line 3\n", newString="LINE 3\n")
SECOND = call("edit", path="a.txt", oldString="line 15\n", newString="LINE 15\n")
ASKS = call("run", command="touch asked")
ADDS = call("mcp__notes__add", a=1, b=2)
REACHES = call("run", command="cat a.txt", network=["packages.invalid"])
DONE = call("finish", summary="Two lines are changed.", succeeded=True)


class TaskCase(Case):
    def open(self, script, trusted=True, **settings):
        self.model = self.closing(ChatModel(script))
        trust = {"workspace": {"trusted": ["/"]}} if trusted else {}
        settings = {**self.model.settings(), **trust, **settings}
        return self.start({"a.txt": NUMBERS, "b.txt": "other\n"}, settings, SELECT + INPUT)

    def seen(self):
        there = self.lists(), self.task()
        return f"there is {there}, asked {len(self.model.asked)}, {super().seen()}"

    def task(self):
        return self.nvim.lua(TASK)

    def wait_task(self, *parts):
        return self.wait(lambda: all(part in self.task() for part in parts), f"a task with {parts}")

    def lists(self):
        """The lists so far, but for that by which a server that starts asks about tasks that were left."""
        lists = self.nvim.lua("return lists")
        return [known for known in lists if not known["prompt"].startswith("A task is not finished")]

    def wait_list(self, n=1):
        self.wait(lambda: len(self.lists()) >= n, f"list {n}")
        return self.lists()[n - 1]

    def wait_asked(self, part):
        """Waits for the list that asks for something."""

        def asked():
            return [known for known in self.lists() if part in known["prompt"]][-1:]

        (found,) = self.wait(asked, f"a list that asks {part!r}")
        return found

    def choose(self, title):
        """Chooses in the last list that has it: a server that starts may ask something, too."""

        def places():
            lists = enumerate(self.nvim.lua("return lists"), 1)
            places = [(at, n) for at, known in lists for n, it in enumerate(known["titles"], 1) if says(it)]
            return places[-1:]

        def says(known):
            return known == title or known.startswith(title + ":")

        self.wait(places, f"a list with {title}")
        ((at, n),) = places()
        self.nvim.lua("local at, n = ... chooses[at](n)", at, n)

    def wait_hunks(self, count):
        counted = "return require('pairwright.hunks').count(vim.fn.bufnr('a.txt'))"
        self.wait(lambda: self.nvim.lua(counted) == count, f"{count} hunks")

    def line(self):
        return self.nvim.lua("return require('pairwright.status').line()")

    def test_a_task_is_asked_for_reviewed_with_one_hunk_rejected_and_taken_back_after_typing(self):
        nvim = self.open(in_turn(["Let me see.", PLAN, FIRST, SECOND], [ASKS], [DONE]))
        nvim.api.command("Pairwright task Shout in two lines.")
        asked = self.wait_asked("run `touch asked`")
        self.assertEqual(asked["titles"][0], "No")
        self.assertIn("Yes, and for the rest of this task: what begins with `touch asked`", asked["titles"])
        self.wait_task(
            "Shout in two lines.",
            "It waits for an answer",
            "[~] Change two lines.",
            "[ ] Look at it.",
            "Let me see.",
            "✓ edit a.txt",
            "a longer yes would remember: touch asked",
        )
        self.assertEqual(self.line(), "pw – task: asks")
        self.choose("Yes, and for the rest of this task")
        self.wait_task("It has succeeded", "Two lines are changed.", "a.txt +2 -2", "3 of 50 steps")
        self.assertEqual(self.task().count("✓ edit a.txt"), 2)
        decided = [e for e in self.desk.sent("pairwright/event", "server") if e["kind"] == "decided"]
        self.assertEqual([(d["decision"], d["scope"]) for d in decided], [("yes", "task")])
        self.assertEqual(self.line(), "pw –")
        self.wait_hunks(2)
        nvim.type("]h")
        self.wait(lambda: nvim.now()["row"] == 2 and nvim.api.funcs.expand("%:t") == "a.txt", "its hunk")
        nvim.type("<M-n>")
        self.wait_hunks(1)
        nvim.type("]h<M-y>")
        changed = NUMBERS.replace("line 15\n", "LINE 15\n")
        self.wait(lambda: nvim.text() + "\n" == changed, "the other one is accepted")
        self.wait_hunks(0)
        nvim.type("Gotyped since<Esc>")
        self.wait(lambda: nvim.text() + "\n" == changed + "typed since\n", "typed")
        nvim.type("<M-u>")
        self.wait(lambda: nvim.text() + "\n" == NUMBERS + "typed since\n", "taken back")
        self.assertEqual((self.model.wrong, self.desk.broken(), nvim.messages()), ([], [], ""))

    def test_edits_are_seen_while_they_are_written_and_before_they_can_be_decided(self):
        writes, works = Gate(), Gate()
        written = '{"path": "a.txt", "oldString": "line 3\\n", "newString": "LINE 3\\n'
        edit = [begin_call("edit", written), writes, go_on('line three and a half\\n"}')]
        other = call("edit", path="b.txt", oldString="other\n", newString="OTHER\n")
        self.open(in_turn(edit, [other], [works, DONE]))
        self.nvim.api.command("Pairwright task Shout.")
        self.wait_task("## Writing a.txt", "\n  LINE 3")
        self.assertNotIn("## Changes", self.task())
        writes.open.set()
        hunks = "      -line 3\n      +LINE 3\n      +line three and a half\n", "      -other\n      +OTHER"
        self.wait_task("It works", "## Changes", "a.txt +2 -1", "b.txt +1 -1", *hunks)
        self.assertNotIn("## Writing", self.task())
        self.wait_hunks(0)
        works.open.set()
        self.wait_task("They wait for a decision")
        self.assertNotIn("+LINE 3", self.task())

    def test_what_a_task_asks_waits_while_the_user_types_elsewhere(self):
        gate = Gate()
        nvim = self.open(in_turn([gate, ASKS], [DONE]))
        nvim.api.command("Pairwright task Touch it.")
        self.wait_task("It works")
        nvim.api.command("wincmd p")
        nvim.type("Goeager")
        gate.open.set()
        self.wait_said("Pairwright task answer")
        nvim.type(" typing<CR>")
        self.wait(lambda: nvim.text().endswith("eager typing\n"), "typed")
        self.assertEqual(self.lists(), [])
        nvim.type("<Esc>")
        nvim.api.command("Pairwright task answer")
        self.wait_list()
        # Closed without an answer, it waits on.
        nvim.lua("choose(99)")
        nvim.api.command("Pairwright task answer")
        self.wait_list(2)
        self.assertIn("It waits for an answer", self.task())
        self.choose("No, and say what to do instead …")
        nvim.lua("write(...)", "Look first.")
        self.wait_task("It has succeeded")
        self.assertIn("Look first.", str(self.model.asked[1]))

    def test_a_folder_is_asked_about_once_or_trusted_by_a_word(self):
        nvim = self.open(in_turn([DONE]), trusted=False)
        nvim.api.command("Pairwright task Do it.")
        self.wait_asked("Do you trust")
        self.choose("Don't trust")
        self.wait_said("is not trusted")
        self.assertEqual(self.model.asked, [])
        nvim.api.command("Pairwright trust")
        self.wait_said("workspace is trusted")
        nvim.api.command("Pairwright task Do it.")
        self.wait_task("It has succeeded")
        self.assertEqual(len(self.lists()), 1)
        nvim.api.command("Pairwright trust revoke")
        self.wait_said("workspace is not trusted")

    def test_a_task_asks_what_neovim_shows_as_wrong(self):
        nvim = self.open(in_turn([call("diagnostics"), call("diagnostics", path="b.txt")], [DONE]))
        nvim.lua("""
          local found = { lnum = 2, col = 0, severity = vim.diagnostic.severity.WARN, source = 'lint' }
          found.message = 'too\\nlong'
          vim.diagnostic.set(vim.api.nvim_create_namespace('lint'), vim.fn.bufnr('a.txt'), { found })
        """)
        nvim.api.command("Pairwright task What is wrong?")
        self.wait_task("It has succeeded")
        told = [e for e in self.desk.sent("pairwright/event", "server") if e["kind"] == "tool_result"]
        self.assertIn("a.txt:3: warning (lint): too long", told[0]["text"])
        self.assertIn("shows nothing as wrong", told[1]["text"])

    def test_a_tool_of_a_server_and_a_host_are_asked_for_by_their_names(self):
        self.open(in_turn([ADDS, ADDS], [REACHES], [DONE]), mcp=TOOLS)
        self.nvim.api.command("Pairwright task Add and fetch.")
        asked = self.wait_asked('call mcp__notes__add with {"a":1,"b":2}')
        for_the_task = "Yes, and for the rest of this task: "
        self.assertIn(for_the_task + "calls of mcp__notes__add", asked["titles"])
        self.wait_task("call mcp__notes__add with:", '    {"a":1,"b":2}', "remember: mcp__notes__add")
        self.choose("Yes, and for the rest of this task")
        asked = self.wait_asked("let `cat a.txt` reach packages.invalid")
        self.assertIn(for_the_task + "what reaches packages.invalid", asked["titles"])
        self.wait_task("let this reach packages.invalid:", "    cat a.txt", "remember: packages.invalid")
        self.choose("No")
        self.wait_task("It has succeeded")
        self.assertEqual(self.task().count("✓ mcp__notes__add"), 2)

    def test_a_task_is_steered_paused_resumed_and_stopped(self):
        gates = [Gate() for _ in range(3)]
        nvim = self.open(in_turn(["First.", gates[0], PLAN], ["Second.", gates[1], PLAN], ["Third.", gates[2], DONE]))
        nvim.api.command("Pairwright task Go on and on.")
        self.wait_task("First.")
        nvim.type("s")
        nvim.lua("write(...)", "Mind the gap.")
        self.wait_task("You: Mind the gap.")
        gates[0].open.set()
        self.wait_task("Second.")
        self.assertIn("Mind the gap.", str(self.model.asked[1]))
        nvim.type("p")
        self.wait_task("It is paused")
        nvim.type("p")
        self.wait_task("It works")
        self.wait(lambda: len(self.model.asked) == 3, "the model is asked again")
        nvim.type("x")
        self.wait_task("It was stopped")
        self.assertEqual(self.line(), "pw –")
        self.wait(lambda: self.model.n_cut >= 2, "the model's answers are not waited for")

    def test_a_task_is_taken_over_with_what_it_has_so_far_whether_it_works_or_is_paused(self):
        other = call("edit", path="b.txt", oldString="other\n", newString="OTHER\n")
        script = in_turn([FIRST], ["Next.", Gate()], [other], ["Then.", Gate()], ["Never.", Gate()])
        nvim = self.open(script)

        def is_at(name, row):
            return lambda: (nvim.api.funcs.expand("%:t"), nvim.now()["row"]) == (name, row)

        nvim.api.command("Pairwright task Shout.")
        self.wait_task("Next.")
        nvim.type("t")
        self.wait(is_at("a.txt", 2), "its first hunk")
        self.wait_task("It was stopped")
        self.wait_hunks(1)
        nvim.type("<M-y>")
        self.wait(lambda: nvim.text() + "\n" == NUMBERS.replace("line 3\n", "LINE 3\n"), "accepted")
        nvim.api.command("Pairwright task Shout elsewhere.")
        self.wait(lambda: "Then." in nvim.text(), "the other task")
        nvim.type("p")
        self.wait(lambda: "It is paused" in nvim.text(), "a pause")
        nvim.api.command("Pairwright task takeover")
        self.wait(is_at("b.txt", 0), "its hunk")

    def test_a_task_goes_on_after_the_server_was_killed_while_it_asked(self):
        nvim = self.open(in_turn([FIRST], [ASKS], [DONE]))
        nvim.api.command("Pairwright task Shout once.")
        self.wait_list()
        self.desk.kill_server()
        self.wait_task("It was cut off; :Pairwright task resume")
        self.wait(lambda: len(self.desk.server_pids()) == 2, "another server")
        self.assertTrue(self.line().endswith("task: cut off"), self.line())
        nvim.api.command("Pairwright task resume")

        def asks_again():
            return ["Yes, this once" in known["titles"] for known in self.lists()].count(True) == 2

        self.wait(asks_again, "it asks again")
        self.choose("Yes, this once")
        self.wait_task("It has succeeded", "✓ edit a.txt")
        self.assertNotIn("It asks", self.task())
        self.wait_hunks(1)
        # It is listed, and shown again from its record.
        nvim.api.command("bwipe!")
        nvim.api.command("Pairwright task list")
        line = r"^\d{4}-\d\d-\d\d \d\d:\d\d  Shout once\.  \(task, succeeded\)$"
        self.wait(lambda: [re.match(line, it) for it in self.lists()[-1]["titles"]][0], "it is listed")
        nvim.lua("choose(1)")
        self.wait_task("It has succeeded", "✓ edit a.txt")

    def test_hostile_output_is_bounded_and_does_nothing(self):
        bad = "\x1b[2J\x1b]0;owned\x07\u202evim: set ts=77 :" + "y" * 9_000 + "\n"
        command = "printf a\n\x1b[2K\rprintf harmless"
        many = [call("run", command=f"echo {n}") for n in range(30)]
        finish = call("finish", summary=bad, succeeded=True)
        nvim = self.open(in_turn([bad * 9, *many, call("run", command=command)], [finish]))
        nvim.api.command("Pairwright task Print.")
        self.wait_task("It waits for an answer")
        asked = self.wait_list()
        self.assertNotIn("\x1b", str(asked))
        self.assertIn("printf a", asked["prompt"])
        self.assertIn("printf harmless", asked["prompt"])
        self.choose("No")
        self.wait_task("It has succeeded")
        text = self.task()
        self.assertLess(len(text), 40_000)
        for char in ("\x1b", "\u202e", "\x07", "\r"):
            self.assertNotIn(char, text)
        self.assertNotEqual(nvim.lua("return vim.bo.tabstop"), 77)

    def intakes(self):
        events = self.desk.sent("pairwright/event", "server")
        # One that is looked at late is told again.
        return list({e["session"]: e for e in events if e["kind"] == "intake"}.values())

    def prompts(self):
        return [event["prompt"] for event in self.intakes()]

    def wait_prompt(self, n, *parts):
        self.wait(lambda: len(self.prompts()) > n, f"task {n}")
        for part in parts:
            self.assertIn(part, self.prompts()[n])

    def test_what_the_server_offers_at_a_place_is_begun_by_commands_and_shown(self):
        nvim = self.open(in_turn([DONE]))
        nvim.api.command("Pairwright fix")
        self.wait_said("nothing is reported")
        nvim.lua(
            """local ns = vim.api.nvim_create_namespace('test')
            vim.diagnostic.set(ns, 0, { { lnum = 3, col = 0, message = 'line 4 is odd' } })"""
        )
        for n, (command, *parts) in enumerate((
            ("4Pairwright fix", "line 4 is odd", "a.txt:4"),
            ("2,3Pairwright tests", "Write tests", "lines 2 to"),
            ("2,3Pairwright document", "documentation", "lines 2 to"),
            ("2,3Pairwright edit Say it louder.", "Say it louder.", "a.txt, lines 2 to 3"),
            ("Pairwright plan Look around.", "Look around."),
        )):
            nvim.api.command(command)
            self.wait_prompt(n, *parts)
            self.wait(lambda: nvim.api.funcs.bufname("%").startswith("pairwright://task/"), "its buffer")
            self.wait(lambda: "It has succeeded" in nvim.text(), "its end")
            nvim.api.command("bwipe")
        self.assertEqual([event["mode"] for event in self.intakes()], ["review"] * 4 + ["plan"])
        # By Neovim's own list of code actions too.
        nvim.lua(
            """vim.lsp.buf.code_action({
              apply = true,
              range = { start = { 2, 0 }, ['end'] = { 3, 0 } },
              filter = function(action) return action.title:match('^Document with') end,
            })"""
        )
        self.wait_prompt(5, "documentation")
        self.wait(lambda: nvim.api.funcs.bufname("%").startswith("pairwright://task/"), "its buffer")

    def test_code_is_explained_in_a_chat(self):
        nvim = self.open(in_turn(["It counts."]))
        nvim.api.command("2,3Pairwright explain")
        self.wait(lambda: nvim.api.funcs.bufname("%").startswith("pairwright://chat/"), "a chat")
        self.wait(lambda: "It counts." in nvim.text(), "the answer")
        self.assertTrue(nvim.text().startswith("## You\n\nExplain what the selected code does"), nvim.text())
        # Told twice, as it was asked before it was looked at.
        self.assertEqual(nvim.text().count("It counts."), 1)
        self.assertIn("line 2\nline 3", str(self.model.asked[0]["messages"][-1]["content"]))

    def test_every_word_is_completed_and_health_tells_of_tasks_that_wait(self):
        nvim = self.open(in_turn([ASKS], [DONE]))

        def completed(typed):
            return nvim.api.funcs.getcompletion(typed, "cmdline")

        words = {"chat", "document", "edit", "explain", "fix", "plan", "sent", "task", "tests"}
        self.assertLessEqual(words, set(completed("Pairwright ")))
        self.assertEqual(completed("Pairwright chat s"), ["send", "sessions", "stop"])
        self.assertEqual(
            completed("Pairwright task "), ["answer", "list", "pause", "resume", "rollback", "steer", "stop", "takeover"]
        )
        self.assertEqual(completed("Pairwright accept f"), ["file"])
        self.assertEqual(completed("Pairwright task stop "), [])
        nvim.api.command("Pairwright task Touch it.")
        self.wait_list()
        nvim.api.command("checkhealth pairwright")
        self.wait(lambda: "1 tasks wait for you" in nvim.text(), "the report")
        self.assertNotIn("❌", nvim.text())


globals().update(in_versions("NeovimTasks", TaskCase, versions=("0.12", "0.10")))

if __name__ == "__main__":
    unittest.main()
