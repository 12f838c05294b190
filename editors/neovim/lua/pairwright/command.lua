--- `:Pairwright <what>`.
local client = require('pairwright.client')
local config = require('pairwright.config')
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api

---@param lines string[]
---@param name string
---@param filetype string
local function show(lines, name, filetype)
  vim.cmd('botright new')
  local buf = api.nvim_get_current_buf()
  vim.bo[buf].buftype = 'nofile'
  vim.bo[buf].bufhidden = 'wipe'
  vim.bo[buf].swapfile = false
  api.nvim_buf_set_lines(buf, 0, -1, false, lines)
  vim.bo[buf].modifiable = false
  vim.bo[buf].filetype = filetype
  pcall(api.nvim_buf_set_name, buf, 'pairwright://' .. name)
end

---@param value any
---@param name string
local function show_value(value, name)
  show(vim.split(vim.inspect(value), '\n', { plain = true }), name, 'lua')
end

local say = nvim.say

---@param subcommand string
---@return string[]
local function server_command(subcommand)
  return { client.program() or config.get().cmd[1], subcommand }
end

local commands = {}

function commands.status(buf)
  client.execute(buf, 'pairwright.showStatus', {}, function(status)
    require('pairwright.status').set(client.of(buf).id, status)
    say(require('pairwright.status').words(status))
  end)
end

function commands.enable(buf)
  require('pairwright').enable_buffer(true, buf)
  client.attach(buf, true)
end

function commands.disable(buf)
  require('pairwright').enable_buffer(false, buf)
end

function commands.toggle(buf)
  local now = vim.b[buf].pairwright_enabled ~= false
  require('pairwright').enable_buffer(not now, buf)
  say(now and 'off in this buffer' or 'on in this buffer')
end

--- Switches the language of the buffer, or the one named, everywhere.
function commands.language(buf, name)
  local language = name or vim.bo[buf].filetype
  client.change_settings(function(settings)
    settings.complete = settings.complete or {}
    local languages = settings.complete.languages or {}
    settings.complete.languages = languages
    languages[language] = languages[language] == false
    say((languages[language] and 'on for ' or 'off for ') .. language)
  end)
end

--- Says that the folder of the buffer is trusted, or no longer.
function commands.trust(buf, what)
  if what ~= nil and what ~= 'revoke' then
    return nvim.complain('trust takes `revoke` or nothing, not ' .. what)
  end
  client.reach(buf, function(running)
    local folder = running.config.root_dir and vim.uri_from_fname(running.config.root_dir)
    local params = { folder = folder, trusted = what == nil }
    client.ask(running, 'pairwright/trust/set', params, function(err, told)
      if err then
        return nvim.complain(err)
      end
      local name = vim.fn.fnamemodify(vim.uri_to_fname(told.folder), ':~')
      say(told.standing == 'trusted' and name .. ' is trusted' or name .. ' is not trusted')
    end, buf)
  end)
end

function commands.snooze(buf, minutes)
  local n = tonumber(minutes or 30)
  if not n then
    return nvim.complain('snooze takes minutes, not ' .. minutes)
  end
  require('pairwright').dismiss()
  client.execute(buf, 'pairwright.snooze', { n })
end

function commands.resume(buf)
  client.execute(buf, 'pairwright.resume')
end

function commands.suggest()
  require('pairwright').suggest()
end

function commands.restart()
  client.restart()
end

function commands.stop()
  client.stop()
end

function commands.relearn(buf)
  client.execute(buf, 'pairwright.relearn')
end

function commands.metrics(buf)
  client.execute(buf, 'pairwright.showMetrics', {}, function(metrics)
    show_value(metrics, 'metrics')
  end)
end

--- Shows what was or would be sent at the cursor, and why.
function commands.sent(buf)
  local running = client.of(buf)
  if not running then
    return say('no server is attached to this buffer', vim.log.levels.WARN)
  end
  local at = api.nvim_win_get_cursor(0)
  local line = api.nvim_get_current_line()
  -- Outside insert mode the cursor stands on the last character, not behind it.
  local is_behind = at[2] >= #vim.fn.matchstr(line, '.*\\ze.')
  local column = nvim.character(line, is_behind and #line or at[2], running.offset_encoding)
  local params = {
    textDocument = { uri = vim.uri_from_bufnr(buf) },
    position = { line = at[1] - 1, character = column },
  }
  client.ask(running, 'pairwright/context/explain', params, function(err, result)
    if err then
      return nvim.complain(err)
    end
    show_value(result, 'sent')
  end, buf)
end

function commands.log()
  local settings = config.get().settings.log
  local file = settings and settings.file
  if not file then
    local state = vim.env.XDG_STATE_HOME or (vim.env.HOME .. '/.local/state')
    file = state .. '/pairwright/pairwright.log'
  end
  vim.cmd('botright split ' .. vim.fn.fnameescape(vim.fn.expand(file)))
end

function commands.doctor()
  vim.cmd('botright new')
  if vim.fn.has('nvim-0.11') == 1 then
    vim.fn.jobstart(server_command('doctor'), { term = true })
  else
    vim.fn.termopen(server_command('doctor'))
  end
end

function commands.hunks()
  require('pairwright.hunks').list()
end

---@param action 'accept'|'reject'
---@return fun(buf: integer, what?: string)
local function decides(action)
  return function(_, what)
    if what == nil then
      require('pairwright.hunks').decide(action)
    elseif what == 'all' or what == 'file' then
      require('pairwright.hunks').decide_all(action, what == 'file' and what or nil)
    else
      nvim.complain(('%s takes `file`, `all` or nothing, not %s'):format(action, what))
    end
  end
end

commands.accept = decides('accept')
commands.reject = decides('reject')

function commands.rollback(_, token)
  require('pairwright.hunks').roll_back(token)
end

function commands.redo(buf)
  require('pairwright.edits').redo(buf)
end

function commands.edits(buf)
  require('pairwright.edits').choose(buf)
end

--- Proposes the edits of a model's answer: the lines of a range, a register, or a file.
function commands.apply(buf, from, range)
  local lines
  if range then
    lines = api.nvim_buf_get_lines(buf, range[1] - 1, range[2], false)
  elseif from == nil or #from == 1 then
    lines = vim.fn.getreg(from or '"', 1, true)
  elseif vim.fn.filereadable(from) == 1 then
    lines = vim.fn.readfile(from)
  else
    return nvim.complain('cannot read ' .. from)
  end
  require('pairwright.hunks').preview(table.concat(lines, '\n') .. '\n', buf)
end

--- Words that are no question and no task.
local verbs = {
  chat = {
    send = function(buf)
      require('pairwright.chat').send(buf)
    end,
    stop = function(buf)
      require('pairwright.chat').stop(buf)
    end,
    new = function(buf)
      require('pairwright.chat').new(buf)
    end,
    review = function()
      require('pairwright.chat').review()
    end,
    sessions = function(buf)
      require('pairwright.chat').choose(buf)
    end,
  },
  task = {
    answer = function()
      require('pairwright.task').answer()
    end,
    pause = function()
      require('pairwright.task').pause()
    end,
    resume = function()
      require('pairwright.task').resume()
    end,
    steer = function()
      require('pairwright.task').steer()
    end,
    stop = function()
      require('pairwright.task').stop()
    end,
    rollback = function()
      require('pairwright.task').rollback()
    end,
    takeover = function()
      require('pairwright.task').take_over()
    end,
    list = function(buf)
      require('pairwright.task').choose(buf)
    end,
  },
}

--- Opens the chat, or asks in it.
function commands.chat(buf, word, range, text)
  local verb = text == word and verbs.chat[word]
  if verb then
    return verb(buf)
  end
  require('pairwright.chat').open(buf, text, range)
end

--- Begins a task; without a word, shows the one there is.
function commands.task(buf, word, range, text)
  local verb = text == word and verbs.task[word]
  if verb then
    return verb(buf)
  elseif word == 'steer' then
    return require('pairwright.task').steer(vim.trim(text:sub(#word + 1)))
  end
  local task = require('pairwright.task')
  if text ~= '' or range or not task.open(buf) then
    task.begin(buf, text, range)
  end
end

--- Begins a task that looks and makes a plan, and changes nothing.
function commands.plan(buf, _, range, text)
  require('pairwright.task').begin(buf, text, range, 'plan')
end

--- Begins a task about some lines.
function commands.edit(buf, _, range, text)
  local line = api.nvim_win_get_cursor(0)[1]
  require('pairwright.task').begin(buf, text, range or { line, line })
end

function commands.explain(buf, _, range)
  require('pairwright.assist').explain(buf, range)
end

for _, what in ipairs({ 'fix', 'tests', 'document' }) do
  commands[what] = function(buf, _, range)
    require('pairwright.assist').begin(what, buf, range)
  end
end

--- What needs Neovim 0.10.
local with_sessions = {
  chat = true,
  document = true,
  edit = true,
  explain = true,
  fix = true,
  plan = true,
  task = true,
  tests = true,
}

--- Runs one subcommand; without any, tells the status.
---@param arguments string
---@param range? integer[] First and last line, where they were given.
function M.run(arguments, range)
  local name, rest = arguments:match('^%s*(%S+)%s*(.-)%s*$')
  name = name or 'status'
  local command = commands[name]
  if not command then
    local known = table.concat(M.complete('', 'Pairwright '), ', ')
    return nvim.complain(('there is no `%s`; there are: %s'):format(name, known))
  end
  if with_sessions[name] and not nvim.has_sessions then
    return nvim.complain(name .. ' needs Neovim 0.10')
  end
  rest = rest or ''
  command(api.nvim_get_current_buf(), rest:match('%S+'), range, rest)
end

--- What the second word may be, where the plugin knows.
---@param name string
---@return string[]
local function words_of(name)
  if name == 'accept' or name == 'reject' then
    return { 'all', 'file' }
  elseif name == 'language' then
    return { vim.bo.filetype }
  elseif name == 'trust' then
    return { 'revoke' }
  end
  return vim.tbl_keys(verbs[name] or {})
end

--- Completes the first two words.
---@param typed string
---@param line string
---@return string[]
function M.complete(typed, line)
  local before = vim.split(line:match('Pairwright%s+(.*)$') or '', '%s+')
  local there = {}
  if #before <= 1 then
    there = vim.tbl_filter(function(name)
      return nvim.has_sessions or not with_sessions[name]
    end, vim.tbl_keys(commands))
  elseif #before == 2 then
    there = words_of(before[1])
  end
  local names = vim.tbl_filter(function(name)
    return vim.startswith(name, typed)
  end, there)
  table.sort(names)
  return names
end

return M
