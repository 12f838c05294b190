"""Tasks in a real VS Code."""

import unittest

from chat_view import View
from desk import TOOLS, until
from scripted_model import ChatModel, Gate, begin_call, call, in_turn
from vscode import Case, installed

NUMBERS = "".join(f"line {n}\n" for n in range(1, 21))
FILES = {"a.txt": NUMBERS, "b.txt": "alpha\nbeta\n", ".env": "TOKEN=hush-hush-hush\n", "c.json": '{"a": }\n'}


@installed
class VsCodeTasks(Case):
    def disk(self, name):
        return (self.desk.workspace / name).read_text()

    def test_a_task(self):
        """One window, because starting one takes long: a task plans, is denied something, asks for
        a command, proposes; its hunks are decided and taken back. Another is paused, steered and
        stopped, and the code at the cursor is explained."""
        never, works = Gate(), Gate()
        plan = [{"text": "Look", "state": "done"}, {"text": "Change the lines", "state": "in_progress"}]
        script = in_turn(
            [
                "Let me look.",
                call("plan", items=plan),
                call("read_file", path=".env"),
                call("run", command="sudo -n true"),
                call("run", command="touch asked"),
                call("run", command="echo it ran"),
            ],
            [
                call("edit", path="a.txt", oldString="line 3\n", newString="LINE 3\n"),
                call("edit", path="a.txt", oldString="line 15\n", newString="LINE 15\n"),
                call("edit", path="b.txt", oldString="beta", newString="BETA"),
            ],
            [works, call("finish", summary="Three lines are louder now.")],
            ["I begin. ", begin_call("edit", '{"path": "b.txt", "content": "one\\ntwo\\nthr'), never],
            ["I go on. ", never],
            ["I am back. ", never],
            ["It is *text*."],
            [call("finish", summary="Edited.")],
            [call("finish", summary="Fixed.")],
            [call("edit", path="b.txt", oldString="alpha", newString="ALPHA"), call("finish", summary="Applied.")],
            [call("mcp__notes__add", a=1, b=2)],
            [call("run", command="cat a.txt", network=["packages.invalid"])],
            [call("finish", summary="Added.")],
            [call("edit", path="b.txt", oldString="alpha", newString="ALPHA")],
            ["Now the other. ", Gate()],
        )
        model = self.closing(ChatModel(script))
        window = self.window(FILES, model, mcp=TOOLS)
        window.open("a.txt")
        view = View(window)
        view.begin("Pairwright: New Task", "review")

        with self.subTest("it plans, and is told what it may not do"):
            view.say("Make some lines louder.")
            view.wait_for(".approval button")
            self.assertEqual(view.texts("#task li"), ["✓ Look", "▸ Change the lines"])
            self.assertIn("Task (review): waiting approval", view.texts("#task .state")[0])
            self.assertIn("Not allowed: sudo -n true", "".join(view.texts("#log .denied")))

        with self.subTest("a command waits for a decision, with the rule that would be remembered"):
            (approval,) = view.texts(".approval")
            self.assertIn("touch asked", approval)
            self.assertIn("commands that begin with touch asked", approval)
            window.looks_as_kept("vscode-approval")
            # By its role and its name, and by the keyboard, as for who does not see it.
            asked = view.frame.get_by_role("group", name="The task asks: May it run this command?")
            asked.get_by_role("button", name="Allow for this task").press("Enter")
            view.wait_log("You allowed it, for this task")
            (decided,) = [a["result"] for a in self.desk.answers("pairwright/approval/request", "server")]
            self.assertEqual(decided, {"decision": "yes", "scope": "task"})

        with self.subTest("what it changes is seen before it can be decided"):
            view.wait_for("#log details[data-path='b.txt']")
            self.assertIn("Changed so far", view.log())
            hunks = view.frame.text_content("#log details[data-path='a.txt'] pre")
            self.assertIn("-line 3\n+LINE 3\n", hunks)
            self.assertIn("-line 15\n+LINE 15\n", hunks)
            self.assertEqual(view.texts("#log button"), [])
            works.open.set()

        with self.subTest("its output, what it took and what it proposes are there"):
            view.press("Review hunks")
            until(lambda: "succeeded" in view.texts("#task .state")[0], "the task is over")
            self.assertIn("3 of 50 steps", view.texts("#task .budget")[0])
            output = view.frame.eval_on_selector_all("#log .step pre", "all => all.map(e => e.textContent)")
            self.assertTrue([text for text in output if "it ran" in text], output)
            self.assertIn("a.txt +2 −2", view.log())
            self.assertEqual(self.disk("a.txt"), NUMBERS)
            self.assertNotIn("hush-hush-hush", str(model.asked))

        def lenses():
            return window.page.locator(".codelens-decoration >> text=Accept hunk").count()

        with self.subTest("one hunk is rejected, the others accepted, and all taken back after typing"):
            window.wait_at("a.txt:3")
            until(lambda: lenses() == 2, "the first file's hunks are there")
            window.press("Alt+n")
            until(lambda: lenses() == 1, "one is left")
            window.press("Alt+Shift+y")
            until(lambda: self.disk("b.txt") == "alpha\nBETA\n", "a file that is not open is written")
            until(lambda: lenses() == 0, "none waits")
            self.assertEqual(window.save("a.txt"), NUMBERS.replace("line 15", "LINE 15"))
            window.press("Control+End")
            window.type("typed")
            window.press("Control+Alt+z")
            until(lambda: self.disk("b.txt") == FILES["b.txt"], "taken back")
            until(lambda: window.save("a.txt") == NUMBERS + "typed", "what was typed stays")

        with self.subTest("a task is paused, resumed, taken up after the server was killed, steered and stopped"):
            view.begin("Pairwright: New Task", "review")
            view.say("Go slowly.")
            view.wait_log("I begin.")
            view.wait_log("Writing b.txt")
            view.wait_log("one\ntwo\n")
            view.press("Pause")
            view.press("Resume")
            view.wait_log("I go on.")
            n = len(self.desk.server_pids())
            self.desk.kill_server()
            until(lambda: len(self.desk.server_pids()) > n, "a new server")
            view.press("Resume")
            view.wait_log("I am back.")
            view.say("Hurry up.")
            view.wait_log("Hurry up.")
            view.press("Stop")
            until(lambda: "cancelled" in view.texts("#task .state")[0], "it is over")

        with self.subTest("the selected code is explained in a chat"):
            window.page.click(".editor-instance .view-lines")
            window.press("Control+Home", "Shift+ArrowDown", "Shift+End")
            window.run_command("Pairwright: Explain Selection")
            view.wait_log("It is text.")
            self.assertIn("line 1", model.asked[-1]["messages"][-1]["content"])

        def task_of(command, answer=None):
            n = len(self.desk.commands("pairwright.task.start"))
            window.run_command(command, asks=answer is not None)
            if answer:
                window.answer(answer)
            until(lambda: len(self.desk.commands("pairwright.task.start")) > n, "a task is begun")
            view.wait_for("#task:has-text('succeeded')")
            return self.desk.commands("pairwright.task.start")[-1][0]["prompt"]

        with self.subTest("the selection is edited as the user says"):
            prompt = task_of("Pairwright: Edit Selection", "Sort this")
            self.assertIn("Sort this", prompt)
            self.assertIn("a.txt, lines 1 to 2", prompt)

        with self.subTest("what the editor reports at the cursor is fixed"):
            window.find("c.json")
            window.page.wait_for_selector(".squiggly-error", timeout=60_000)
            self.assertIn("Fix what the editor reports at c.json:1", task_of("Pairwright: Fix What Is Reported Here"))

        with self.subTest("what a task has applied is taken back from the view"):
            view.begin("Pairwright: New Task", "review")
            view.say("Apply it.", mode="auto")
            until(lambda: self.disk("b.txt") == "ALPHA\nbeta\n", "applied without a question", 60)
            view.press("Take back")
            until(lambda: self.disk("b.txt") == FILES["b.txt"], "taken back")

        with self.subTest("a tool of a server and a host are asked for by their names"):
            view.begin("Pairwright: New Task", "review")
            view.say("Add and fetch.")
            for text, whole, remembered, answer in (
                ("May it call mcp__notes__add?", '{"a":1,"b":2}', "calls of mcp__notes__add", "Allow once"),
                ("May this command reach packages.invalid?", "cat a.txt", "what reaches packages.invalid", "No"),
            ):
                asked = view.frame.get_by_role("group", name=f"The task asks: {text}")
                asked.wait_for()
                for part in (text, whole, remembered):
                    self.assertIn(part, asked.inner_text())
                asked.get_by_role("button", name=answer).click()
            until(lambda: "succeeded" in view.texts("#task .state")[0], "the task is over")

        with self.subTest("a task that runs is taken over with what it has so far"):
            view.begin("Pairwright: New Task", "review")
            view.say("Change both.")
            view.wait_log("Now the other.")
            view.press("Take over")
            window.wait_at("b.txt:1")
            until(lambda: lenses() == 1, "its hunk is there")
            until(lambda: "cancelled" in view.texts("#task .state")[0], "it is over")
            window.press("Alt+y")
            until(lambda: lenses() == 0, "it is decided")
            self.assertEqual(window.save("b.txt"), "ALPHA\nbeta\n")

        self.assertEqual(window.hosts, {"127.0.0.1"})
        self.assertEqual(self.desk.broken(), [])
        self.assertEqual(model.wrong, [])


if __name__ == "__main__":
    unittest.main()
