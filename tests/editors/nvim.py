"""A real Neovim, driven by its API."""

import subprocess
import sys
import unittest

import docs
from desk import PATIENCE, PREFIX, ROOT, Desk, Timed, Timeout, editors, needs, until

sys.path.append(str(PREFIX / "python"))

PLUGIN = ROOT / "editors/neovim"

#: Where the plugin is, in the documentation.
DOCUMENTED = "/path/to/pairwright/editors/neovim"
LINES = docs.block("Neovim", "lua")

#: Indentation is off so that keys mean what they say.
CONFIG = LINES.replace(DOCUMENTED, str(PLUGIN)) + "vim.cmd('filetype indent off')\n"

#: Messages are what a user reads; in a test nobody presses a key for them.
QUIET = "_G.said = {}\nvim.notify = function(m) table.insert(_G.said, m) end\n"

#: Lists are answered by the test: `choose(n)` is for the last one, `chooses[at](n)` for an earlier one.
SELECT = """
_G.lists, _G.chooses = {}, {}
vim.ui.select = function(items, options, done)
  local titles = vim.tbl_map(options.format_item or tostring, items)
  table.insert(_G.lists, { prompt = options.prompt, titles = titles })
  _G.choose = function(n) done(items[n]) end
  _G.chooses[#_G.lists] = _G.choose
end
"""

#: What is on screen and in the buffer, in one answer, so that it belongs together.
SNAPSHOT = """
local buf = vim.api.nvim_get_current_buf()
local at = vim.api.nvim_win_get_cursor(0)
local ns = vim.api.nvim_get_namespaces()[...]
local marks = ns and vim.api.nvim_buf_get_extmarks(buf, ns, 0, -1, { details = true }) or {}
local ghost = vim.NIL
for _, mark in ipairs(marks) do
  local function text(chunks)
    local out = ''
    for _, chunk in ipairs(chunks or {}) do out = out .. chunk[1] end
    return out
  end
  local lines = { text(mark[4].virt_text) }
  for _, chunks in ipairs(mark[4].virt_lines or {}) do table.insert(lines, text(chunks)) end
  ghost = { row = mark[2], column = mark[3], text = table.concat(lines, '\\n') }
end
return {
  lines = vim.api.nvim_buf_get_lines(buf, 0, -1, false),
  row = at[1] - 1, column = at[2], ghost = ghost, mode = vim.api.nvim_get_mode().mode,
}
"""


def program(version):
    return PREFIX / f"neovim-{version}/usr/bin/nvim"


class Neovim:
    """One Neovim with one file open. `config` is the user's init.lua."""

    namespace = "pairwright.ghost"

    def __init__(self, desk, version, config, file, **environment):
        import pynvim

        self.desk = desk
        init = desk.home / "init.lua"
        init.write_text(config)
        address = str(desk.folder / "nvim.sock")
        self.process = subprocess.Popen(
            [program(version), "--headless", "-n", "-u", init, "--listen", address],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=desk.workspace,
            env=desk.environment(**environment),
        )
        editors.append(self.process)

        def attach():
            try:
                return pynvim.attach("socket", path=address)
            except OSError:
                return None

        self.api = until(attach, "Neovim listens")
        self.api.ui_attach(100, 30, rgb=True)
        self.api.command(f"edit {desk.workspace / file}")

    def lua(self, code, *arguments):
        return self.api.exec_lua(code, *arguments)

    def type(self, keys):
        """Types; `<` must be written as `<lt>`."""
        left = keys
        while left:
            left = left[self.api.input(left) :]

    def now(self):
        return self.lua(SNAPSHOT, self.namespace)

    def ghost(self):
        """The text shown behind the cursor; empty when there is none."""
        ghost = self.now()["ghost"]
        return ghost["text"] if ghost else ""

    def text(self):
        return "\n".join(self.now()["lines"])

    def wait_ghost(self, expected=None, seconds=PATIENCE):
        def is_there():
            text = self.ghost()
            return text if (text if expected is None else text == expected) else None

        try:
            return until(is_there, f"ghost text {expected!r}", seconds)
        except Timeout as late:
            raise Timeout(f"{late}; there is {self.now()}") from None

    def wait_no_ghost(self):
        until(lambda: not self.ghost(), "no ghost text")

    def wait_text(self, expected):
        try:
            until(lambda: self.text() == expected, f"buffer {expected!r}")
        except Timeout as late:
            raise Timeout(f"{late}; there is {self.text()!r}") from None

    def screen(self):
        """The screen's rows as a user sees them."""
        return self.lua(
            """vim.cmd('redraw')
            local rows = {}
            for row = 1, vim.o.lines do
              local cells = {}
              for column = 1, vim.o.columns do cells[column] = vim.fn.screenstring(row, column) end
              rows[row] = (table.concat(cells):gsub(' +$', ''))
            end
            return rows"""
        )

    def messages(self):
        return self.api.command_output("messages")

    def close(self):
        self.api.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        editors.remove(self.process)


class Case(Timed):
    """What tests of edits, chats and tasks have in common."""

    version = ""

    def start(self, files, settings, config="", file="a.txt"):
        self.desk = self.closing(Desk(files, settings))
        self.nvim = self.closing(Neovim(self.desk, self.version, CONFIG + QUIET + config, file))
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        self.nvim.api.command("set hidden")
        return self.nvim

    def said(self):
        return self.nvim.lua("return said")

    def wait(self, event, what):
        try:
            return until(event, what)
        except Timeout as late:
            raise Timeout(f"{late}; {self.seen()}") from None

    def wait_said(self, part):
        self.wait(lambda: any(part in message for message in self.said()), part)

    def seen(self):
        """What there is where something does not come."""
        return f"said {self.said()}, messages {self.nvim.messages()!r}"


def in_versions(name, *bases, versions):
    """Test classes of some bases by their names, one a version; one that is not installed is skipped."""
    cases = {}
    for version in versions:
        called = f"{name}{version.replace('.', '_')}"
        of = {"version": version, "__module__": bases[0].__module__}
        case = type(called, (*bases, unittest.TestCase), of)
        cases[called] = needs(program(version), f"neovim-{version}")(case)
    return cases
