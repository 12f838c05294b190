"""Emacs in a terminal, with the lines of the documentation: lsp-mode's ghost text, eglot's menu."""

import subprocess
import unittest

import docs
from desk import PREFIX, PRICES, Desk, Terminal, Timed, needs, until
from scripted_model import ChatModel, call, in_turn

EMACS = PREFIX / "emacs"
PROGRAM = EMACS / "usr/bin/emacs-nox"

INLINE = "textDocument/inlineCompletion"

#: What every session needs: a server to ask it by, and nothing in the way.
COMMON = """\
(setq inhibit-startup-screen t make-backup-files nil auto-save-default nil create-lockfiles nil
      server-socket-dir "{folder}" server-name "emacs" indent-tabs-mode nil
      ;; No compiler comes along.
      native-comp-enable-subr-trampolines nil native-comp-jit-compilation nil)
(require 'server)
(server-start)
(electric-indent-mode -1)
(setq js-mode-hook nil)
"""

#: Packages as they lie in the unpacked distribution, and no questions asked.
LSP_MODE = """\
(dolist (folder (directory-files "{packages}" t "^[a-z]"))
  (add-to-list 'load-path folder)
  (let ((clients (expand-file-name "clients" folder)))
    (when (file-directory-p clients) (add-to-list 'load-path clients))))
(load "lsp-mode-autoloads" nil t)
(setq lsp-client-packages nil lsp-auto-guess-root t lsp-restart 'ignore
      lsp-enable-suggest-server-download nil lsp-session-file "{folder}/session"
      lsp-idle-delay 0.05 lsp-inline-completion-idle-delay 0.2)
"""


def relocated():
    """Where an Emacs that was moved finds its own files."""
    (share,) = (EMACS / "usr/share/emacs").glob("[0-9]*")
    (libexec,) = (EMACS / "usr/libexec/emacs").glob("[0-9]*/*/")
    folders = [share / "lisp", *(path for path in (share / "lisp").rglob("*") if path.is_dir())]
    (dump,) = libexec.glob("*.pdmp")
    return dump, {
        "EMACSLOADPATH": ":".join(map(str, folders)),
        "EMACSDATA": str(share / "etc"),
        "EMACSDOC": str(share / "etc"),
        "EMACSPATH": str(libexec),
    }

#: What agent-shell has that its documented settings use: each keeps what it is given.
AGENT_SHELL = """\
(defvar agent-shell-agent-configs nil)
(defun agent-shell-make-agent-config (&rest given) given)
(defun acp-make-client (&rest given) given)
(provide 'agent-shell)
"""

#: Prints the command, a word a line, that the first agent is started by.
STARTED = """\
(let* ((agent (car agent-shell-agent-configs))
       (client (funcall (plist-get agent :client-maker) (current-buffer))))
  (dolist (word (cons (plist-get client :command) (plist-get client :command-params)))
    (princ word) (terpri)))
"""


@needs(PROGRAM, "emacs")
class Emacs(Timed, unittest.TestCase):
    seconds = 120

    def open(self, text, before, block, ask, settings=None):
        """`ask` is an expression that sends `pairwright/status/get`."""
        self.desk = self.closing(Desk({"a.js": text}, settings))
        init = self.desk.home / "init.el"
        names = {"folder": self.desk.folder, "packages": EMACS / "usr/share/emacs/site-lisp/elpa-src"}
        init.write_text((COMMON + before).format(**names) + block)
        dump, self.environment = relocated()
        command = [PROGRAM, f"--dump-file={dump}", "-nw", "-Q", "-l", init, "a.js"]
        terminal = self.closing(Terminal("emacs", command, self.desk, **self.environment))
        try:
            until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server", 40)
        except AssertionError as late:
            raise AssertionError(f"{late}; on screen is:\n{terminal.screen()}") from None
        asking = f'(with-current-buffer "a.js" {ask} nil)'
        self.desk.wait_ready(lambda: self.eval(asking))
        return terminal

    def eval(self, expression):
        client = EMACS / "usr/bin/emacsclient.emacs"
        done = subprocess.run(
            [client, "-s", self.desk.folder / "emacs", "--eval", expression],
            env=self.desk.environment(),
            capture_output=True,
            text=True,
            timeout=20,
        )
        return done.stdout.strip()

    def buffer(self):
        text = self.eval('(with-current-buffer "a.js" (buffer-substring-no-properties 1 (point-max)))')
        return text.strip('"').replace("\\n", "\n")

    def test_lsp_mode_shows_ghost_text_and_takes_it_by_tab(self):
        ask = '(lsp-request "pairwright/status/get" nil)'
        terminal = self.open(PRICES, LSP_MODE, docs.block("Emacs with lsp-mode", "elisp"), ask)
        terminal.keys("M->")
        terminal.type("export function totalDepth(items) {")
        terminal.keys("C-j")
        terminal.type("  let")

        def suggestion():
            answers = self.desk.answers(INLINE)
            items = answers and (answers[-1].get("result") or {}).get("items")
            return items and items[0]["insertText"]

        text = until(suggestion, "a suggestion")
        terminal.wait_for(text.strip())
        terminal.save_screen("emacs-lsp-mode")
        self.assertNotIn("Warning", terminal.screen())
        self.assertEqual(self.eval('(get-buffer "*Warnings*")'), "nil")
        terminal.keys("Tab")
        until(lambda: text in self.buffer(), "taken")
        until(lambda: self.desk.commands("pairwright.didAcceptCompletion"), "the server is told")

    def test_lsp_mode_explains_does_tasks_and_decides_hunks_by_code_actions(self):
        edit = call("edit", path="a.js", oldString="one", newString="ONE")
        finish = call("finish", summary="It shouts.", succeeded=True)
        model = self.closing(ChatModel(in_turn(["It is a constant."], [edit], [finish])))
        text = "const first = 'one';\nconst second = 'two';\n"
        ask = '(lsp-request "pairwright/status/get" nil)'
        block = docs.block("Emacs with lsp-mode", "elisp")
        settings = {"models": model.settings()["models"]}
        terminal = self.open(text, LSP_MODE, block, ask, settings)

        def run(command):
            terminal.keys("M-x")
            terminal.wait_for("M-x")
            terminal.type(command)
            terminal.keys("Enter")

        def act(title):
            terminal.keys("M-<")
            run("lsp-execute-code-action")
            terminal.wait_for("Select code action")
            terminal.type(title)
            terminal.keys("Enter")

        with self.subTest("a region is explained in a document"):
            run("mark-whole-buffer")
            run("lsp-execute-code-action")
            terminal.wait_for("Select code action")
            terminal.type("Explain with Pairwright")
            terminal.keys("Enter")
            terminal.wait_for("It is a constant.")
            self.assertIn("const second = 'two';", str(model.asked[0]["messages"][-1]["content"]))

        with self.subTest("a task is begun"):
            terminal.keys("C-x", "b")
            terminal.type("a.js")
            terminal.keys("Enter", "M-:")
            terminal.type(docs.block("Emacs with lsp-mode", "elisp", 1).strip())
            terminal.keys("Enter")
            terminal.wait_for("Do you trust")
            terminal.type("Trust")
            terminal.keys("Enter")
            terminal.wait_for("Accept hunk of agent")
            self.assertEqual(self.desk.commands("pairwright.task.start"), [[{"prompt": "Rename area to surface."}]])
            self.assertEqual(self.buffer(), text)

        with self.subTest("its hunk is accepted, and taken back"):
            act("Accept hunk")
            until(lambda: self.buffer() == text.replace("one", "ONE"), "accepted")
            act("Undo last Pairwright edit")
            until(lambda: self.buffer() == text, "taken back")
        self.assertEqual(model.wrong, [])

    def test_eglot_offers_menu_items(self):
        ask = "(jsonrpc-request (eglot-current-server) :pairwright/status/get nil)"
        terminal = self.open(PRICES, "", docs.block("Emacs with eglot", "elisp"), ask)
        terminal.keys("M->")
        terminal.type("export function totalDepth(items) {")
        terminal.keys("C-j")
        terminal.type("  let tot")
        terminal.keys("C-M-i")
        until(lambda: "let total" in self.buffer().split("totalDepth")[-1], "the item is taken")

    def test_agent_shell_is_told_of_an_agent_that_answers(self):
        self.desk = self.closing(Desk())
        init = self.desk.home / "init.el"
        init.write_text(AGENT_SHELL + docs.block("Emacs with agent-shell", "elisp") + STARTED)
        dump, environment = relocated()
        done = subprocess.run(
            [PROGRAM, f"--dump-file={dump}", "-Q", "--batch", "-l", init],
            env=self.desk.environment(**environment),
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.stdout.split(), ["pairwright", "acp"], done.stderr)
        self.assertTrue(self.desk.speaks_acp([self.desk.programs / "pairwright", "acp"]))


if __name__ == "__main__":
    unittest.main()
