--- Explain, fix, write tests, document: what the server offers at a place, asked for by its kind.
---
--- Not here: what is asked of a model, which comes with the server's code actions.
local client = require('pairwright.client')
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api

--- The kind of the server's actions, below which each has one of its own.
local KIND = 'quickfix.pairwright.'

---@param range integer[] first and last line
---@return table
local function whole_lines(range)
  return {
    start = { line = range[1] - 1, character = 0 },
    ['end'] = { line = range[2], character = 0 },
  }
end

--- What the editor reports on some lines, as the protocol has it.
---@param buf integer
---@param range integer[]
---@return table[]
local function reported(buf, range)
  local found = {}
  for _, one in ipairs(vim.diagnostic.get(buf)) do
    if one.lnum + 1 >= range[1] and one.lnum + 1 <= range[2] then
      table.insert(found, {
        range = whole_lines({ one.lnum + 1, one.lnum + 1 }),
        severity = one.severity,
        source = one.source,
        message = one.message,
      })
    end
  end
  table.sort(found, function(a, b)
    return a.severity < b.severity
  end)
  return found
end

--- Explains the lines of a range, or the paragraph at the cursor, in a chat.
---@param buf integer
---@param range? integer[]
function M.explain(buf, range)
  if not range then
    range = { math.max(vim.fn.search('^\\s*$', 'bnW') + 1, 1), vim.fn.search('^\\s*$', 'nW') - 1 }
    if range[2] < range[1] then
      range[2] = api.nvim_buf_line_count(buf)
    end
  end
  local part = { uri = vim.uri_from_bufnr(buf), range = whole_lines(range) }
  require('pairwright.chat').explain(part, buf)
end

--- Begins the task that the server offers for some lines.
---@param what 'fix'|'tests'|'document'
---@param buf integer
---@param range? integer[]
function M.begin(what, buf, range)
  local running = client.of(buf)
  if not running then
    return nvim.say('no server is attached to this buffer', vim.log.levels.WARN)
  end
  local line = api.nvim_win_get_cursor(0)[1]
  local diagnostics = what == 'fix' and reported(buf, range or { line, line }) or {}
  if what == 'fix' and #diagnostics == 0 then
    return nvim.say('nothing is reported on this line')
  end
  local params = {
    textDocument = { uri = vim.uri_from_bufnr(buf) },
    range = whole_lines(range or { line, line }),
    context = { diagnostics = diagnostics, only = { KIND .. what } },
  }
  client.ask(running, 'textDocument/codeAction', params, function(err, actions)
    if err then
      return nvim.complain(err)
    end
    local action = actions and actions[1]
    if action then
      return require('pairwright.task').start(action.command.arguments[1], buf)
    end
    nvim.say('that is a task, which needs a model: `models.agent`', vim.log.levels.WARN)
  end, buf)
end

return M
