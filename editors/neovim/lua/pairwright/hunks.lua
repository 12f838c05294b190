--- Edits that wait for a decision: shown where they are, decided one by one, taken back.
---
--- Holds: the server knows the hunks; what is here is its last answer. It is asked again when it
--- says that they changed, and when text changed while it was answering.
--- Not here: drawing (`hunk_marks.lua`), which keys do what (`keys.lua`).
local client = require('pairwright.client')
local marks = require('pairwright.hunk_marks')
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api

local shown = {} ---@type table<integer, pairwright.Mark[]> by buffer
--- What a server said last, by its client: files with hunks that wait.
local known = {} ---@type table<integer, { uri: string, hunks: pairwright.Hunk[] }[]>
--- Clients that are being asked, and whether to ask once more after that.
local asking = {} ---@type table<integer, 'once'|'again'>

local say = nvim.say

---@param path string
---@return string
local function real(path)
  return nvim.uv.fs_realpath(path) or path
end

--- The hunks of a buffer that wait, in the order of their lines.
---@param client_id integer
---@param buf integer
---@return pairwright.Hunk[]
local function hunks_of(client_id, buf)
  local path = real(api.nvim_buf_get_name(buf))
  for _, file in ipairs(known[client_id] or {}) do
    if real(vim.uri_to_fname(file.uri)) == path then
      return file.hunks
    end
  end
  return {}
end

---@param client_id integer
---@param buf integer
local function draw(client_id, buf)
  local hunks = hunks_of(client_id, buf)
  if #hunks == 0 and not shown[buf] then
    return
  end
  marks.clear(buf)
  shown[buf] = #hunks > 0 and marks.show(buf, hunks) or nil
  require('pairwright.keys').review(buf, #hunks > 0)
  api.nvim_exec_autocmds('User', { pattern = 'PairwrightHunks', modeline = false })
end

--- Keeps of an answer what still waits.
---@param files table[]
---@return { uri: string, hunks: pairwright.Hunk[] }[]
local function pending(files)
  local waiting = {}
  for _, file in ipairs(files) do
    local hunks = vim.tbl_filter(function(hunk)
      return hunk.state == 'pending'
    end, file.hunks)
    local there = vim.tbl_filter(function(other)
      return other.uri == file.uri
    end, waiting)[1]
    if there then
      vim.list_extend(there.hunks, hunks)
    elseif #hunks > 0 then
      table.insert(waiting, { uri = file.uri, hunks = hunks })
    end
  end
  for _, file in ipairs(waiting) do
    table.sort(file.hunks, function(a, b)
      return a.range.start.line < b.range.start.line
    end)
  end
  table.sort(waiting, function(a, b)
    return a.uri < b.uri
  end)
  return waiting
end

--- Versions of the texts that a client knows.
---@param running vim.lsp.Client
---@return table<integer, integer>
local function ticks(running)
  local versions = {}
  for _, buf in ipairs(client.buffers(running.id)) do
    versions[buf] = api.nvim_buf_get_changedtick(buf)
  end
  return versions
end

--- Asks the server what waits, and shows it.
---@param client_id integer
function M.refresh(client_id)
  if asking[client_id] then
    asking[client_id] = 'again'
    return
  end
  local running = vim.lsp.get_client_by_id(client_id)
  local buffers = running and client.buffers(client_id) or {}
  if #buffers == 0 then
    return
  end
  asking[client_id] = 'once'
  local before = ticks(running)
  nvim.request(running, 'pairwright/diff/list', vim.empty_dict(), function(err, result)
    local again = asking[client_id] == 'again'
    asking[client_id] = nil
    if again or (result and not vim.deep_equal(before, ticks(running))) then
      return M.refresh(client_id)
    end
    if err or not result then
      return
    end
    known[client_id] = pending(result.files)
    for _, buf in ipairs(client.buffers(client_id)) do
      draw(client_id, buf)
    end
  end, buffers[1])
end

--- A file was opened: shows what is known to wait in it. The first time, asks: proposals outlive
--- the server that made them.
---@param client_id integer
---@param buf integer
function M.attach(client_id, buf)
  if not known[client_id] then
    M.refresh(client_id)
  elseif #hunks_of(client_id, buf) > 0 then
    draw(client_id, buf)
    M.refresh(client_id)
  end
end

--- The server of a buffer is gone, and its proposals with it.
---@param client_id integer
---@param buf integer
function M.detach(client_id, buf)
  known[client_id], asking[client_id], shown[buf] = nil, nil, nil
  marks.clear(buf)
  if api.nvim_buf_is_valid(buf) then
    require('pairwright.keys').review(buf, false)
  end
end

--- How many hunks wait in a buffer.
---@param buf? integer
---@return integer
function M.count(buf)
  return #(shown[buf or api.nvim_get_current_buf()] or {})
end

---@param buf integer
---@return pairwright.Hunk?
local function at_cursor(buf)
  local row = api.nvim_win_get_cursor(0)[1] - 1
  for _, mark in ipairs(shown[buf] or {}) do
    local first, last = marks.rows(buf, mark)
    if first <= row and row <= last then
      return mark.hunk
    end
  end
end

---@param row integer
local function go_to(row)
  local last = api.nvim_buf_line_count(0)
  vim.cmd("normal! m'")
  api.nvim_win_set_cursor(0, { math.min(row + 1, last), 0 })
end

--- Opens a file, in a window that shows files.
---@param path string
---@return boolean
local function open(path)
  if vim.b.pairwright_root then
    require('pairwright.view').leave()
  end
  if real(api.nvim_buf_get_name(0)) == path then
    return true
  end
  local opened, why = pcall(vim.cmd, 'edit ' .. vim.fn.fnameescape(path))
  if not opened then
    nvim.complain(tostring(why))
  end
  return opened
end

--- Opens the file after (or before) that of the buffer in which hunks wait; false when there is
--- none.
---@param client_id integer
---@param buf integer
---@param step 1|-1
---@return boolean
local function go_to_other_file(client_id, buf, step)
  local here = real(api.nvim_buf_get_name(buf))
  local others = {}
  local after ---@type integer?
  for _, file in ipairs(known[client_id] or {}) do
    local path = real(vim.uri_to_fname(file.uri))
    local is_there = vim.fn.filereadable(path) == 1 or vim.fn.bufexists(path) == 1
    if path ~= here and is_there then
      table.insert(others, path)
      if not after and path > here then
        after = #others
      end
    end
  end
  if #others == 0 then
    return false
  end
  local next_one = after or 1
  local previous = after and after > 1 and after - 1 or #others
  return open(others[step == 1 and next_one or previous])
end

--- Goes to the first hunk of a proposal, of the folder of `buf`.
---@param proposal string
---@param buf integer
function M.review(proposal, buf)
  local running = client.of(buf)
  if not running then
    return say('no server is attached to this buffer', vim.log.levels.WARN)
  end
  client.ask(running, 'pairwright/diff/list', vim.empty_dict(), function(err, result)
    if err then
      return nvim.complain(err)
    end
    for _, file in ipairs(pending(result.files)) do
      for _, hunk in ipairs(file.hunks) do
        if hunk.proposal == proposal then
          return open(real(vim.uri_to_fname(file.uri))) and go_to(hunk.range.start.line)
        end
      end
    end
    say('all hunks of this are decided')
  end)
end

--- Goes to the next hunk (or the one before), in this file or another.
---@param step 1|-1
function M.jump(step)
  local buf = api.nvim_get_current_buf()
  local row = api.nvim_win_get_cursor(0)[1] - 1
  local rows = vim.tbl_map(function(mark)
    return (marks.rows(buf, mark))
  end, shown[buf] or {})
  local best ---@type integer?
  for _, first in ipairs(rows) do
    local is_beyond = step == 1 and first > row or step == -1 and first < row
    if is_beyond and (not best or step * first < step * best) then
      best = first
    end
  end
  if best then
    return go_to(best)
  end
  local running = client.of(buf)
  if running and go_to_other_file(running.id, buf, step) then
    buf = api.nvim_get_current_buf()
    rows = vim.tbl_map(function(mark)
      return (marks.rows(buf, mark))
    end, shown[buf] or {})
  elseif #rows == 0 then
    return say('no hunk waits for a decision')
  end
  local edge = rows[step == 1 and 1 or #rows]
  if edge then
    go_to(edge)
  end
end

--- Says what a decision did not do.
---@param result table
local function tell(result)
  for _, conflict in ipairs(result.conflicts or {}) do
    local message = '%s was changed at line %d since; nothing was done there'
    say(message:format(conflict.path, conflict.lines.start + 1), vim.log.levels.WARN)
  end
end

---@param action 'accept'|'reject'
---@param which table what `pairwright/diff/resolve` takes
local function resolve(action, which)
  which.action = action
  client.execute(api.nvim_get_current_buf(), 'pairwright.diff.resolve', { which }, tell)
end

--- Decides the hunk at the cursor.
---@param action 'accept'|'reject'
function M.decide(action)
  local buf = api.nvim_get_current_buf()
  local hunk = at_cursor(buf)
  if not hunk then
    local there = M.count(buf)
    local next_one = there > 0 and ('; %d in this file'):format(there) or ''
    return say('no hunk at the cursor' .. next_one)
  end
  resolve(action, { hunks = { hunk.id } })
end

--- Decides all hunks of all files, or of this one.
---@param action 'accept'|'reject'
---@param where? 'file'
function M.decide_all(action, where)
  local buf = api.nvim_get_current_buf()
  if where == 'file' then
    return resolve(action, { textDocument = { uri = vim.uri_from_bufnr(buf) } })
  end
  local command = action == 'accept' and 'pairwright.acceptAll' or 'pairwright.rejectAll'
  client.execute(buf, command, {}, tell)
end

--- Takes back an edit: the last that stands, unless a token is given. What was typed since stays.
---@param token? string
---@param is_redo? boolean the token is of a taking back
function M.roll_back(token, is_redo)
  local params = token and { rollbackToken = token } or vim.empty_dict()
  client.execute(api.nvim_get_current_buf(), 'pairwright.diff.rollback', { params }, function(result)
    tell(result)
    if #result.paths > 0 then
      local what = is_redo and 'did again' or 'took back'
      say(('%s the edit of %s'):format(what, table.concat(result.paths, ', ')))
    end
  end)
end

--- Proposes the edits that a model's answer has in it. Edits that name no file are for `file`.
---@param answer string
---@param file? integer a buffer
function M.preview(answer, file)
  local buf = api.nvim_get_current_buf()
  local document = file and { uri = vim.uri_from_bufnr(file) } or nil
  local params = { answer = answer, textDocument = document }
  client.execute(buf, 'pairwright.diff.preview', { params }, function(result)
    local n_hunks = 0
    for _, proposed in ipairs(result.files) do
      n_hunks = n_hunks + #proposed.hunks
    end
    local message = '%d hunk%s in %d file%s wait%s for a decision'
    local one_hunk, one_file = n_hunks == 1, #result.files == 1
    say(
      message:format(
        n_hunks,
        one_hunk and '' or 's',
        #result.files,
        one_file and '' or 's',
        one_hunk and 's' or ''
      )
    )
  end)
end

--- Lists all hunks in the quickfix window.
function M.list()
  local running = client.of(api.nvim_get_current_buf())
  local items = {}
  for _, file in ipairs(running and known[running.id] or {}) do
    for _, hunk in ipairs(file.hunks) do
      local text = vim.split(hunk.new ~= '' and hunk.new or hunk.old, '\n', { plain = true })[1]
      table.insert(items, {
        filename = vim.uri_to_fname(file.uri),
        lnum = hunk.range.start.line + 1,
        text = ('%s: %s %s'):format(hunk.author, hunk.new ~= '' and '+' or '-', text),
      })
    end
  end
  if #items == 0 then
    return say('no hunk waits for a decision')
  end
  vim.fn.setqflist({}, ' ', { title = 'Pairwright hunks', items = items })
  vim.cmd('botright copen')
end

return M
