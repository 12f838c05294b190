--- `:checkhealth pairwright`.
local config = require('pairwright.config')
local nvim = require('pairwright.nvim')

local M = {}

--- The first version of the server that speaks as this plugin does.
local NEEDED = { 0, 1, 0 }

---@param version string
---@return boolean
local function is_new_enough(version)
  local parts = { version:match('(%d+)%.(%d+)%.(%d+)') }
  for i, needed in ipairs(NEEDED) do
    local part = tonumber(parts[i]) or 0
    if part ~= needed then
      return part > needed
    end
  end
  return true
end

local function check_neovim()
  local v = vim.version()
  local version = ('%d.%d.%d'):format(v.major, v.minor, v.patch)
  if vim.fn.has('nvim-0.10') == 1 then
    nvim.health.ok('Neovim ' .. version)
  elseif vim.fn.has('nvim-0.7') == 1 then
    nvim.health.warn(
      'Neovim ' .. version .. ': ghost text in the middle of a line stands at its end',
      { 'Neovim 0.10 and later show it in place' }
    )
  else
    nvim.health.error('Neovim ' .. version .. ' is too old', { '0.7 is needed, 0.10 is better' })
  end
end

---@return boolean
local function check_program()
  local program = require('pairwright.client').program()
  if not program then
    nvim.health.info('A function of yours starts the server')
    return true
  end
  local path = vim.fn.exepath(program)
  if path == '' then
    nvim.health.error(('`%s` is not an executable program'):format(program), {
      'Install the server, so that `pairwright --version` works in a terminal',
      "Or name it: vim.g.pairwright = { cmd = { '/path/to/pairwright', 'lsp' } }",
    })
    return false
  end
  local said = vim.trim(vim.fn.system({ path, '--version' }))
  if vim.v.shell_error ~= 0 or not said:match('^pairwright ') then
    nvim.health.error(('%s does not answer to --version: %s'):format(path, said))
    return false
  end
  if not is_new_enough(said) then
    nvim.health.error(('%s is too old: %s'):format(path, said), { 'Update the server' })
    return false
  end
  nvim.health.ok(('%s (%s)'):format(path, said))
  return true
end

local function check_server()
  local clients = nvim.clients('pairwright')
  if #clients == 0 then
    nvim.health.info('No server is running; it starts with the first file that is opened')
  end
  for _, client in ipairs(clients) do
    local root = client.config.root_dir or 'no workspace'
    local command = { command = 'pairwright.showStatus', arguments = {} }
    local answer = nvim.request_sync(client, 'workspace/executeCommand', command, 2000)
    if not answer then
      nvim.health.error('The server for ' .. root .. ' does not answer', { ':Pairwright restart' })
    elseif answer.kind == 'Normal' then
      nvim.health.ok(('Server for %s: %s'):format(root, answer.message))
    else
      nvim.health.warn(('Server for %s: %s'):format(root, answer.message), { ':Pairwright doctor' })
    end
  end
end

---@param settings pairwright.Config
local function check_keys(settings)
  if not settings.keymaps then
    return nvim.health.info('Default keys are off; map <Plug>(pairwright-accept) and so on')
  end
  local keys = require('pairwright.keys')
  for name, key in pairs(settings.keymaps) do
    if key and not keys.is_of_view(name) and keys.is_taken(key, keys.mode(name)) then
      nvim.health.info(
        ('%s is mapped by something else, so it does not %s; map <Plug>(pairwright-%s) yourself'):format(
          key,
          name:gsub('_', ' '),
          (name:gsub('_', '-'))
        )
      )
    end
  end
end

--- Says which edits wait for a decision, so that none is forgotten.
local function check_hunks()
  for _, client in ipairs(nvim.clients('pairwright')) do
    local listed = nvim.request_sync(client, 'pairwright/diff/list', vim.empty_dict(), 2000)
    local waiting = 0
    for _, file in ipairs(listed and listed.files or {}) do
      for _, hunk in ipairs(file.hunks) do
        waiting = waiting + (hunk.state == 'pending' and 1 or 0)
      end
    end
    if not listed then
      nvim.health.warn('The server does not tell which edits wait for a decision')
    elseif waiting > 0 then
      nvim.health.info(('%d hunks wait for a decision: :Pairwright hunks'):format(waiting))
    else
      nvim.health.ok('Edits can be reviewed and taken back; none waits for a decision')
    end
  end
end

--- Says which tasks wait for the user.
local function check_tasks()
  if not nvim.has_sessions then
    return nvim.health.info('Chat and tasks need Neovim 0.10')
  end
  for _, client in ipairs(nvim.clients('pairwright')) do
    local listed = nvim.request_sync(client, 'pairwright/session/list', vim.empty_dict(), 2000)
    local sessions = listed and listed.sessions or {}
    local waiting = vim.tbl_filter(function(session)
      return session.state == 'paused' or session.state == 'waiting_approval'
    end, sessions)
    if not listed then
      nvim.health.info('The server keeps no chats and tasks; it keeps those of a folder')
    elseif #waiting > 0 then
      nvim.health.info(('%d tasks wait for you: :Pairwright task list'):format(#waiting))
    else
      nvim.health.ok(('Chats and tasks are kept; there are %d'):format(#sessions))
    end
  end
end

---@param settings pairwright.Config
local function check_ghost(settings)
  if settings.ghost == 'native' and not nvim.has_native_ghost then
    nvim.health.error('`ghost = "native"` needs Neovim 0.12', { 'Leave `ghost` out' })
  end
end

function M.check()
  nvim.health.start('Pairwright')
  local settings, problems = config.read()
  check_neovim()
  for _, problem in ipairs(problems) do
    nvim.health.warn(problem, { ':help pairwright-config' })
  end
  if check_program() then
    check_server()
    check_hunks()
    check_tasks()
  end
  check_ghost(settings)
  check_keys(settings)
end

return M
