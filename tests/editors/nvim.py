"""A real Neovim, driven by its API."""

import subprocess
import sys

from desk import PATIENCE, PREFIX, ROOT, Timeout, editors, until

sys.path.append(str(PREFIX / "python"))

PLUGIN = ROOT / "editors/neovim"

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
