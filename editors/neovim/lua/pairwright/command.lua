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

---@param message string
local function say(message)
  vim.notify('Pairwright: ' .. message, vim.log.levels.INFO)
end

---@param subcommand string
---@return string[]
local function server_command(subcommand)
  return { config.get().cmd[1], subcommand }
end

local commands = {}

function commands.status(buf)
  client.execute(buf, 'pairwright.showStatus', {}, function(status)
    require('pairwright.status').set(client.of(buf).id, status)
    say(status.message)
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

function commands.snooze(buf, minutes)
  local n = tonumber(minutes or 30)
  if not n then
    return vim.notify('Pairwright: snooze takes minutes, not ' .. minutes, vim.log.levels.ERROR)
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
function commands.explain(buf)
  local running = client.of(buf)
  if not running then
    return vim.notify('Pairwright: no server is attached to this buffer', vim.log.levels.WARN)
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
  nvim.request(running, 'pairwright/context/explain', params, function(err, result)
    if err then
      return vim.notify('Pairwright: ' .. err.message, vim.log.levels.ERROR)
    end
    show_value(result, 'explain')
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
      local message = 'Pairwright: %s takes `file`, `all` or nothing, not %s'
      vim.notify(message:format(action, what), vim.log.levels.ERROR)
    end
  end
end

commands.accept = decides('accept')
commands.reject = decides('reject')

function commands.rollback(_, token)
  require('pairwright.hunks').roll_back(token)
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
    return vim.notify('Pairwright: cannot read ' .. from, vim.log.levels.ERROR)
  end
  require('pairwright.hunks').preview(table.concat(lines, '\n') .. '\n')
end

--- Runs one subcommand; without any, tells the status.
---@param arguments string[]
---@param range? integer[] First and last line, where they were given.
function M.run(arguments, range)
  local name = arguments[1] or 'status'
  local command = commands[name]
  if not command then
    local known = table.concat(M.complete('', 'Pairwright '), ', ')
    local message = 'Pairwright: there is no `%s`; there are: %s'
    return vim.notify(message:format(name, known), vim.log.levels.ERROR)
  end
  command(api.nvim_get_current_buf(), arguments[2], range)
end

--- Completes the first argument.
---@param typed string
---@param line string
---@return string[]
function M.complete(typed, line)
  if #vim.split(vim.trim(line), '%s+') > (typed == '' and 1 or 2) then
    return {}
  end
  local names = vim.tbl_filter(function(name)
    return vim.startswith(name, typed)
  end, vim.tbl_keys(commands))
  table.sort(names)
  return names
end

return M
