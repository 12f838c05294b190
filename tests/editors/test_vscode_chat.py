"""Chats in a real VS Code."""

import unittest

from chat_view import View
from desk import until
from scripted_model import ChatModel, Gate, in_turn
from vscode import Case, installed

SHAPES = """\
export function area(side) {
  return side + side;
}

export function perimeter(side) {
  return 4 * side;
}
"""
MENDED = SHAPES.replace("side + side", "side * side")

#: Everything that a page might do with what a model or a file says.
HOSTILE = """\
<script>document.title = 'owned'; parent.postMessage('owned', '*')</script>
<img src="https://evil.invalid/a.png" onerror="document.title = 'owned'">
<svg onload="document.title = 'owned'"></svg>
<iframe src="https://evil.invalid/"></iframe><style>@import 'https://evil.invalid/a.css';</style>

![picture](https://evil.invalid/b.png) ![data](data:image/svg+xml;base64,AAAA)
[script](javascript:document.title='owned') [command](command:workbench.action.closeWindow)
[outside](file:///etc/passwd) [above](../../../../etc/passwd) [page](https://evil.invalid/page)

```"><img src=x onerror="document.title='owned'">
</code></pre><script>document.title = 'owned'</script>
```

That was all.
"""

#: Does in the page what hostile text would like to; gives how each was refused.
BREAK_OUT = """async () => {
  const refused = [];
  const heard = () => new Promise(done =>
    document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective), { once: true }));
  let next = heard();
  document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title = "owned"' }));
  refused.push(await next);
  next = heard();
  new Image().src = 'https://evil.invalid/c.png';
  refused.push(await next);
  next = heard();
  fetch('https://evil.invalid/').catch(() => {});
  refused.push(await next);
  return refused;
}"""


@installed
class VsCodeChat(Case):
    def disk(self, name):
        return (self.desk.workspace / name).read_text()

    def test_a_chat(self):
        """One window, because starting one takes long: an answer comes in pieces, is stopped,
        names places, has a block reviewed; the view is hidden and the server killed."""
        go_on, never = Gate(), Gate()
        script = in_turn(
            ["The area is **wrong**, ", go_on, "see src/shapes.js:2.\n\nsrc/shapes.js\n", f"```js\n{MENDED}```\n"],
            ["Once upon a time", never],
            ["It begins, ", never],
            ["And it goes on."],
            [HOSTILE],
        )
        model = self.closing(ChatModel(script))
        window = self.window({"src/shapes.js": SHAPES, "notes.md": "a\nb\n"}, model)
        window.page.click(".explorer-folders-view >> text=src")
        window.open("shapes.js")
        view = View(window)
        view.open()

        with self.subTest("an answer is shown as it comes"):
            until(lambda: view.chips() == ["shapes.js"], "what is open goes with a question")
            view.say("What is wrong here?")
            view.wait_log("The area is wrong,")
            self.assertEqual(view.frame.get_attribute("#log", "aria-busy"), "true")
            self.assertFalse(view.is_there("button:text-is('Review as hunks')"))
            go_on.open.set()
            view.wait_for("button:text-is('Review as hunks')")
            until(lambda: view.frame.get_attribute("#log", "aria-busy") == "false", "the answer is over")
            self.assertIn("export function area", model.asked[0]["messages"][-1]["content"])
            window.looks_as_kept("vscode-chat")

        with self.subTest("a place that it names is opened at its line"):
            view.frame.click(".cited a:text-is('src/shapes.js:2')")
            window.wait_at("shapes.js:2")

        with self.subTest("a block of it is reviewed as hunks"):
            view.press("Review as hunks")
            window.page.wait_for_selector(".codelens-decoration >> text=Accept hunk", timeout=60_000)
            window.wait_at("shapes.js:2")
            self.assertEqual(self.disk("src/shapes.js"), SHAPES)
            window.press("Alt+y")
            until(lambda: not window.page.query_selector(".codelens-decoration >> text=Accept hunk"), "decided")
            until(lambda: window.save("src/shapes.js") == MENDED, "the hunk is in the file")

        with self.subTest("context is added and left out"):
            window.press("Control+Home", "Shift+ArrowDown", "Shift+ArrowDown")
            window.run_command("Pairwright: Add Selection to the Question")
            until(lambda: view.chips() == ["shapes.js:1-2", "shapes.js:1-2"], "both are shown")
            view.frame.click("#chips button[aria-label^='Leave out the selection']")
            until(lambda: view.chips() == ["shapes.js:1-2"], "one is left")
            for choice, name in (("A symbol", "area"), ("The uncommitted changes", None)):
                view.press("Add context…")
                window.choose(choice)
                if name:
                    window.answer(name)
            expected = ["shapes.js:1-2", "area", "uncommitted changes"]
            until(lambda: view.chips() == expected, "all three are shown")

        with self.subTest("an answer is stopped, and the model hears of it"):
            view.say("Tell me a story.")
            view.wait_log("Once upon a time")
            view.wait_for("button:text-is('Stop')")
            view.frame.press("#draft", "Escape")
            view.wait_log("stopped")
            until(lambda: model.n_cut == 1, "the model's answer was cut")
            sent = self.desk.sent("pairwright/chat/send")[-1]
            self.assertTrue(sent["withoutDocument"])
            self.assertNotIn("textDocument", sent)
            lines, *others = sent["contextRefs"]
            self.assertEqual((lines["type"], lines["firstLine"], lines["lastLine"]), ("file", 1, 2))
            self.assertEqual(others, [{"type": "symbol", "name": "area"}, {"type": "diff"}])
            # The workspace is no repository, which is something to know.
            self.assertIn("git does not tell the changes.", view.texts("#log .notice"))

        with self.subTest("a view that was hidden shows the same"):
            view.frame.fill("#draft", "not sent yet")
            before = view.log()
            window.run_command("View: Show Explorer")
            until(lambda: view.page() is None, "the view is hidden")
            view.open()
            until(lambda: view.log() == before, "the same is there")
            self.assertEqual(view.frame.input_value("#draft"), "not sent yet")

        with self.subTest("the server is killed in an answer, and the chat goes on"):
            view.say("Begin.")
            view.wait_log("It begins,")
            n = len(self.desk.server_pids())
            self.desk.kill_server()
            until(lambda: len(self.desk.server_pids()) > n, "a new server")
            until(lambda: not view.is_there("button:text-is('Stop')"), "nothing goes on")
            view.say("Go on.")
            view.wait_log("And it goes on.")
            log = view.log()
            for text in ("What is wrong here?", "Once upon a time", "It begins,", "Go on."):
                self.assertEqual(log.count(text), 1, log)
            self.assertIn("Once upon a time", str(model.asked[-1]["messages"]))

        with self.subTest("a new chat is empty, and the old one is kept"):
            view.begin("Pairwright: New Chat", "ask")
            view.say("Say something hostile.")
            view.wait_log("That was all.")
            self.assertEqual(len(model.asked[-1]["messages"]), 2, "the old chat is told to the model")

        with self.subTest("hostile Markdown does nothing"):
            tags = view.frame.eval_on_selector_all("#log *", "all => all.map(e => e.localName)")
            self.assertFalse({"script", "img", "svg", "iframe", "style"} & set(tags), tags)
            links = view.frame.eval_on_selector_all("#log .answer a", "all => all.map(e => [e.textContent, e.href])")
            self.assertFalse([at for _, at in links if not at.endswith("#")], links)
            self.assertNotIn("script", [text for text, _ in links])
            for outside in ("outside", "above"):
                view.frame.click(f"#log .answer a:text-is('{outside}')")
                until(lambda: "leads to no file" in view.frame.inner_text("#failed"), "refused")
            view.frame.click("#log .answer a:text-is('page')")
            window.page.wait_for_selector(".monaco-dialog-box >> text=evil.invalid")
            window.press("Escape")
            self.assertEqual(view.frame.title(), "Pairwright")

        with self.subTest("the history has both"):
            window.run_command("Pairwright: Chats and Tasks", asks=True)
            window.page.wait_for_selector(".quick-input-list .monaco-list-row >> text=hostile")
            window.page.keyboard.type("What is wrong")
            window.page.wait_for_selector(".quick-input-list .monaco-list-row >> text=/What is wrong/")
            window.press("Enter")
            view.wait_log("Once upon a time")
            self.assertNotIn("That was all.", view.log())

        self.assertEqual(window.hosts, {"127.0.0.1"})
        self.assertEqual(self.desk.broken(), [])

        with self.subTest("what would get past all that is refused by the page's own policy"):
            self.assertEqual(view.frame.evaluate(BREAK_OUT), ["script-src-elem", "img-src", "connect-src"])
            self.assertEqual(view.frame.title(), "Pairwright")


if __name__ == "__main__":
    unittest.main()
