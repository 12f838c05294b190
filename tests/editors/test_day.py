"""A day at the editor in minutes: what the server keeps, and the plugins in Neovim and VS Code, does not
grow with what was typed.

PAIRWRIGHT_DAY says how many edits, 100,000 for a day; fewer in every run.
"""

import json
import os
import queue
import random
import statistics
import subprocess
import threading
import unittest

import nvim
import vscode
from desk import PATIENCE, PRICES, SERVER, Desk, Timed, editors, needs, until
from extension_host import ExtensionHost
from scripted_model import Model

EDITS = int(os.environ.get("PAIRWRIGHT_DAY", "3000"))
#: Lines of a file: three times those that are typed.
LINES = 3 * PRICES.count("\n")
#: What may be added between the first fifth of the day and its end.
GROWTH = 1.2


def memory(process):
    """MiB of a process's own, without files that are mapped."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024


def early_and_late(measured):
    """What it was after about a fifth of the day, and at its end."""
    tenth = -(-len(measured) // 10)
    return statistics.median(measured[tenth : 3 * tenth]), statistics.median(measured[-tenth:])


class Client:
    """An editor in miniature, over the server's standard streams."""

    def __init__(self, desk):
        self.process = subprocess.Popen(
            [SERVER, "lsp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=desk.workspace,
            env=desk.environment(),
        )
        editors.append(self.process)
        self.answers = queue.Queue()
        self.count = 0
        threading.Thread(target=self.listen, daemon=True).start()
        root = desk.workspace.as_uri()
        self.ask("initialize", {"processId": os.getpid(), "rootUri": root, "capabilities": {}})
        self.tell("initialized", {})

    def listen(self):
        while line := self.process.stdout.readline():
            length = int(line.split(b":")[1])
            self.process.stdout.readline()
            message = json.loads(self.process.stdout.read(length))
            if "method" not in message:
                self.answers.put(message)
            elif "id" in message:
                self.send({"id": message["id"], "result": None})

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def tell(self, method, params):
        self.send({"method": method, "params": params})

    def ask(self, method, params):
        self.count += 1
        self.send({"id": self.count, "method": method, "params": params})
        answer = self.answers.get(timeout=PATIENCE)
        assert answer["id"] == self.count, answer
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def close(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()
        editors.remove(self.process)


class Typist:
    """Types lines that a file has already into it, one key at a time, with what goes with it."""

    def __init__(self, client, desk, names, seed):
        self.client, self.desk, self.names = client, desk, names
        self.random = random.Random(seed)
        self.open(names[0])

    def open(self, name):
        self.path = self.desk.workspace / name
        self.uri = self.path.as_uri()
        self.lines = self.path.read_text().split("\n")
        self.version = 1
        document = {"uri": self.uri, "languageId": "javascript", "version": 1, "text": "\n".join(self.lines)}
        self.client.tell("textDocument/didOpen", {"textDocument": document})
        self.begin_line()

    def begin_line(self):
        self.row = self.random.randrange(len(self.lines))
        self.wanted = self.random.choice(PRICES.split("\n")) or "  return total;"
        self.change(self.row, 0, self.row, 0, "\n")
        self.column = 0

    def change(self, row, column, end_row, end_column, text):
        self.version += 1
        head, tail = self.lines[row][:column], self.lines[end_row][end_column:]
        self.lines[row : end_row + 1] = (head + text + tail).split("\n")
        places = {"start": {"line": row, "character": column}, "end": {"line": end_row, "character": end_column}}
        self.client.tell(
            "textDocument/didChange",
            {
                "textDocument": {"uri": self.uri, "version": self.version},
                "contentChanges": [{"range": places, "text": text}],
            },
        )

    def key(self):
        """One edit, and what an editor asks for after it."""
        if self.column < len(self.wanted):
            self.change(self.row, self.column, self.row, self.column, self.wanted[self.column])
            self.column += 1
        else:
            # Files stay as long as they are, so that what grows is what the server keeps of them.
            if len(self.lines) > LINES:
                self.change(5, 0, 5 + len(self.lines) - LINES, 0, "")
            self.begin_line()
        place = {"textDocument": {"uri": self.uri}, "position": {"line": self.row, "character": self.column}}
        answer = self.client.ask("textDocument/inlineCompletion", {**place, "context": {"triggerKind": 2}})
        items = (answer or {}).get("items", [])
        if items:
            self.client.tell("textDocument/didShowCompletion", {"item": items[0]})
            if self.random.random() < 0.1:
                command = items[0]["command"]
                self.client.ask("workspace/executeCommand", command)

    def save(self):
        self.path.write_text("\n".join(self.lines))
        self.client.tell("textDocument/didSave", {"textDocument": {"uri": self.uri}})

    def move(self):
        """To another file."""
        self.save()
        self.client.tell("textDocument/didClose", {"textDocument": {"uri": self.uri}})
        self.open(self.random.choice(self.names))

    def review(self, n):
        """Proposes an edit of a file that is not open, accepts it and takes it back."""
        old = "first" if n == 0 else f"line {n - 1}"
        answer = f"notes.txt\n<<<<<<< SEARCH\n{old}\n=======\nline {n}\n>>>>>>> REPLACE\n"
        proposal = self.client.ask("pairwright/diff/preview", {"answer": answer})["proposal"]
        done = self.client.ask("pairwright/diff/apply", {"proposal": proposal})
        again = self.client.ask("pairwright/diff/rollback", {"rollbackToken": done["rollbackToken"]})
        self.client.ask("pairwright/diff/rollback", {"rollbackToken": again["rollbackToken"]})


class Day(Timed, unittest.TestCase):
    seconds = 90 + EDITS // 20

    def test_what_the_server_keeps_does_not_grow_with_the_day(self):
        names = [f"shop/prices_{n}.js" for n in range(40)]
        files = {name: PRICES.replace("total", f"total{n}") * 3 for n, name in enumerate(names)}
        desk = self.closing(Desk({**files, "notes.txt": "first\n"}))
        client = self.closing(Client(desk))
        typist = Typist(client, desk, names, seed=7)
        measured, reviews = [], 0
        for n in range(1, EDITS + 1):
            typist.key()
            if n % 100 == 0:
                typist.save()
            if n % 300 == 0:
                typist.move()
            if n % (EDITS // 30) == 0:
                typist.review(reviews)
                reviews += 1
            if n % (EDITS // 100) == 0:
                measured.append(memory(client.process))
        early, late = early_and_late(measured)
        print(
            f"day: {EDITS} edits, {reviews} reviewed: {measured[0]:.1f} MiB at the start, {early:.1f} after a "
            f"fifth, {late:.1f} at the end",
            flush=True,
        )
        self.assertLess(late, early * GROWTH)
        self.assertEqual((desk.workspace / "notes.txt").read_text(), f"line {reviews - 1}\n")


@needs(nvim.program("0.12"), "neovim-0.12")
class DayInNeovim(nvim.Case, unittest.TestCase):
    version = "0.12"
    seconds = 90 + EDITS // 20

    def test_what_the_plugin_keeps_does_not_grow_with_the_day(self):
        names = [f"shop/prices_{n}.js" for n in range(10)]
        files = {name: PRICES.replace("total", f"total{n}") * 3 for n, name in enumerate(names)}
        model = self.closing(Model(lambda prefix, _: "1 + 2;" if prefix.endswith("=") else ""))
        # However late the model is on a busy machine, what it says is waited for.
        settings = {**model.settings(), "complete": {"deadlineMs": 10_000}}
        # What can be undone is Neovim's to keep.
        window = self.start(files, settings, "vim.o.undolevels = -1\n", file=names[0])
        dice, lua, all_of_it = random.Random(7), [], []
        edits = 0
        while edits < EDITS:
            line = dice.choice(PRICES.split("\n")).strip() or "return total;"
            row = dice.randrange(1, LINES)
            window.type(f"<Esc>:1,2delete _<CR>{row}Go" + line.replace("<", "<lt>"))
            until(lambda line=line: window.api.current.line.strip() == line, f"the line {line!r}")
            edits += len(line) + 2
            if dice.random() < 0.2:
                window.type(" let x =")
                window.wait_ghost("1 + 2;")
                window.type(dice.choice(["<Tab>", "<C-]>", "<M-Right>"]))
                edits += len(" let x =") + 1
            if dice.random() < 0.1:
                window.type(f"<Esc>:write | edit! {dice.choice(names)}<CR>")
            if edits * 100 // EDITS > len(lua):
                lua.append(window.lua("collectgarbage() collectgarbage() return collectgarbage('count')") / 1024)
                all_of_it.append(memory(window.process))
        for what, measured in (("Lua", lua), ("Neovim", all_of_it)):
            early, late = early_and_late(measured)
            print(f"day in Neovim: {edits} edits: {what} {early:.2f} MiB after a fifth, {late:.2f} at the end", flush=True)
            self.assertLess(late, early * GROWTH, what)


@vscode.installed
class DayInVsCode(vscode.Case):
    seconds = 120 + EDITS // 10
    #: A key takes longer here than in the others.
    edits = EDITS if "PAIRWRIGHT_DAY" in os.environ else 600

    def test_what_the_extension_keeps_does_not_grow_with_the_day(self):
        names = [f"prices_{n}.js" for n in range(10)]
        files = {name: PRICES.replace("total", f"total{n}") * 3 for n, name in enumerate(names)}
        window = self.window(files, self.model(lambda prefix, _: "1 + 2;" if prefix.endswith("=") else ""))
        name = names[0]
        window.open(name)
        host = self.closing(ExtensionHost(window))
        dice, heap = random.Random(7), []
        edits = 0
        while edits < self.edits:
            line = dice.choice(PRICES.split("\n")).strip() or "return total;"
            window.press("Control+Home", "Control+Shift+k", "Control+End", "Enter")
            window.page.keyboard.type(line)
            edits += len(line) + 2
            if dice.random() < 0.2:
                window.page.keyboard.type(" let x =")
                window.wait_ghost("1 + 2;")
                window.press(dice.choice(["Tab", "Escape", "Control+ArrowRight"]))
                until(lambda: window.ghost() != "1 + 2;", "it is taken or gone")
                edits += len(" let x =") + 1
            if dice.random() < 0.1:
                window.save(name)
                name = dice.choice(names)
                window.find(name)
            if edits * 100 // self.edits > len(heap):
                heap.append(host.heap())
        early, late = early_and_late(heap)
        print(f"day in VS Code: {edits} edits: {early:.2f} MiB after a fifth, {late:.2f} at the end", flush=True)
        self.assertLess(late, early * GROWTH)


if __name__ == "__main__":
    unittest.main()
