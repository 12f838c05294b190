--- The server's state for a status line: `%{v:lua.require'pairwright.status'.line()}`.
local M = {}

---@class pairwright.Status
---@field busy boolean
---@field kind 'Normal'|'Warning'|'Error'|'Inactive'
---@field message string
---@field mode? string what the task under way may do
---@field sandbox? string what separated the last command of a task from the machine
---@field pendingFiles? integer files that the index has yet to look at

local last = {} ---@type table<integer, pairwright.Status>

local marks = { Normal = '', Warning = '!', Error = '✗', Inactive = '–' }

--- Takes what a server says about itself.
---@param client_id integer
---@param status pairwright.Status
function M.set(client_id, status)
  last[client_id] = status
  vim.api.nvim_exec_autocmds('User', { pattern = 'PairwrightStatus', modeline = false })
  vim.cmd('redrawstatus')
end

---@param client_id integer
function M.forget(client_id)
  last[client_id] = nil
end

--- The state of the server of `buf`; nil when there is none, or it has not said anything yet.
---@param buf? integer
---@return pairwright.Status?
function M.get(buf)
  local client = require('pairwright.client').of(buf or vim.api.nvim_get_current_buf())
  return client and last[client.id]
end

--- All that a server says about itself, in lines.
---@param status pairwright.Status
---@return string
function M.words(status)
  local lines = { status.message }
  if status.mode then
    table.insert(lines, 'Task: ' .. status.mode)
  end
  if status.sandbox then
    table.insert(lines, 'Last sandbox: ' .. status.sandbox)
  end
  if status.pendingFiles then
    table.insert(lines, ('Index: %d files behind'):format(status.pendingFiles))
  end
  return table.concat(lines, '\n')
end

--- What a task of the folder does, where one was begun or looked at.
---@param client vim.lsp.Client
---@return string
local function task_of(client)
  local task = package.loaded['pairwright.task']
  local state = task and client.config.root_dir and task.line(client.config.root_dir)
  return state and ' task: ' .. state or ''
end

--- A few characters: empty where no server is attached, a mark where something is the matter, and
--- what a task does that is not over.
---@return string
function M.line()
  local client = require('pairwright.client').of(vim.api.nvim_get_current_buf())
  if not client then
    return ''
  end
  local status = last[client.id]
  if not status then
    return 'pw …' .. task_of(client)
  end
  local mark = status.busy and '…' or marks[status.kind] or ''
  return (mark == '' and 'pw' or 'pw ' .. mark) .. task_of(client)
end

return M
