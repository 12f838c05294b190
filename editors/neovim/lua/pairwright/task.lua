--- Tasks: begun, watched in a buffer of their own, asked for, steered and stopped.
---
--- Holds: a buffer shows what the record of its task says; it changes only where that changed, so
--- that the cursor stays.
--- Not here: lines (`task_view.lua`), questions (`approval.lua`), hunks (`hunks.lua`).
local approval = require('pairwright.approval')
local client = require('pairwright.client')
local nvim = require('pairwright.nvim')
local plain = require('pairwright.plain')
local sessions = require('pairwright.sessions')
local view = require('pairwright.view')

local M = {}

local api = vim.api

--- Bytes of a command's output that are kept to be shown.
local KEPT = 16 * 1024
--- Steps that are kept.
local STEPS = 2000

---@class pairwright.Step
---@field call? string
---@field tool? string
---@field arguments? string
---@field said? string
---@field is_running? boolean
---@field output? string
---@field outcome? string
---@field took? integer
---@field tier? string

---@class pairwright.Task
---@field id string
---@field buf integer
---@field root string
---@field prompt string
---@field state string
---@field why? string
---@field is_lost boolean
---@field summary? string
---@field plan table[]
---@field files table[]
---@field proposal? string
---@field rollback? string
---@field steps pairwright.Step[]
---@field asked pairwright.Approval[]
---@field spent table
---@field ceilings table
---@field is_drawing boolean

local tasks = {} ---@type table<string, pairwright.Task>
local latest ---@type pairwright.Task?

local over = { succeeded = true, failed = true, cancelled = true }

---@param message string
local function complain(message)
  nvim.say(message, vim.log.levels.ERROR)
end

--- Puts lines into a buffer, changing only those that differ.
---@param buf integer
---@param lines string[]
local function put(buf, lines)
  local old = api.nvim_buf_get_lines(buf, 0, -1, false)
  local first = 1
  while first <= #old and first <= #lines and old[first] == lines[first] do
    first = first + 1
  end
  local from_end = 0
  while
    from_end < #old - first + 1
    and from_end < #lines - first + 1
    and old[#old - from_end] == lines[#lines - from_end]
  do
    from_end = from_end + 1
  end
  local changed = vim.list_slice(lines, first, #lines - from_end)
  view.change(buf, function()
    api.nvim_buf_set_lines(buf, first - 1, #old - from_end, false, changed)
  end)
end

---@param task pairwright.Task
local function draw(task)
  if task.is_drawing then
    return
  end
  task.is_drawing = true
  vim.schedule(function()
    task.is_drawing = false
    vim.cmd('redrawstatus')
    if not api.nvim_buf_is_loaded(task.buf) then
      return
    end
    local last = api.nvim_buf_line_count(task.buf)
    local following = vim.tbl_filter(function(window)
      return api.nvim_win_get_cursor(window)[1] == last
    end, vim.fn.win_findbuf(task.buf))
    put(task.buf, require('pairwright.task_view').lines(task))
    for _, window in ipairs(following) do
      api.nvim_win_set_cursor(window, { api.nvim_buf_line_count(task.buf), 0 })
    end
  end)
end

---@param task pairwright.Task
---@param call string
---@return pairwright.Step
local function step_of(task, call)
  for i = #task.steps, 1, -1 do
    if task.steps[i].call == call then
      return task.steps[i]
    end
  end
  return {}
end

---@param task pairwright.Task
---@param step pairwright.Step
local function add(task, step)
  table.insert(task.steps, step)
  if #task.steps > STEPS then
    table.remove(task.steps, 1)
  end
end

---@param text string
---@param more string
---@return string
local function kept(text, more)
  return (text .. more):sub(-KEPT)
end

local takes = {} ---@type table<string, fun(task: pairwright.Task, event: table)>

function takes.intake(task, event)
  task.prompt, task.ceilings = event.prompt, event.limits or {}
end

function takes.message(task, event)
  local last = task.steps[#task.steps]
  if last and last.said then
    last.said = kept(last.said, event.text)
  else
    add(task, { said = kept('', event.text) })
  end
end

function takes.tool_call(task, event)
  add(task, { call = event.call, tool = event.tool, arguments = kept('', event.arguments) })
end

function takes.tool_started(task, event)
  step_of(task, event.call).is_running = true
end

function takes.tool_output(task, event)
  local step = step_of(task, event.call)
  step.output = kept(step.output or '', event.text)
end

function takes.tool_result(task, event)
  local step = step_of(task, event.call)
  step.is_running, step.outcome = false, event.outcome
  step.took, step.tier = event.took, event.tier
end

function takes.plan(task, event)
  task.plan = event.items
end

function takes.diff(task, event)
  task.files = event.files
  task.proposal = event.proposal or task.proposal
  task.rollback = event.rollbackToken or task.rollback
end

function takes.approval(task, event)
  table.insert(task.asked, event)
end

function takes.decided(task, event)
  task.asked = vim.tbl_filter(function(asked)
    return asked.approval ~= event.approval
  end, task.asked)
  approval.decided(event.approval)
end

function takes.denied(task, event)
  add(task, { said = ('Denied: %s: %s'):format(event.what, event.why) })
end

function takes.notice(task, event)
  add(task, { said = event.text })
end

function takes.steer(task, event)
  add(task, { said = 'You: ' .. event.text })
end

function takes.usage(task, event)
  task.spent = event.spent or task.spent
end

function takes.status(task, event)
  task.state, task.why = event.state, event.why
  task.is_lost = false
  for _, asked in ipairs(task.asked) do
    if over[event.state] then
      approval.decided(asked.approval)
    elseif event.state == 'paused' then
      approval.drop(asked.approval)
    end
  end
  if over[event.state] then
    task.asked = {}
  end
end

function takes.done(task, event)
  task.summary = event.summary
end

---@param task pairwright.Task
local function tell(task)
  draw(task)
  api.nvim_exec_autocmds('User', { pattern = 'PairwrightTask', modeline = false })
end

---@param id string
---@param root string
---@return pairwright.Task
local function watch(id, root)
  local known = tasks[id]
  if known and api.nvim_buf_is_loaded(known.buf) then
    return known
  end
  local buf = view.create('task/' .. id, 'pairwright-task', root)
  vim.bo[buf].modifiable = false
  vim.b[buf].pairwright_task = id
  local task = { id = id, buf = buf, root = root, prompt = '', state = 'planning', is_lost = false }
  task.plan, task.files, task.steps, task.asked = {}, {}, {}, {}
  task.spent, task.ceilings, task.is_drawing = {}, {}, false
  tasks[id], latest = task, task
  require('pairwright.keys').view(buf, 'task')
  sessions.follow(id, root, 0, {
    on_event = function(event)
      local take = takes[event.kind]
      if take then
        take(task, event)
        tell(task)
      end
    end,
    on_lost = function()
      task.is_lost = not over[task.state]
      tell(task)
    end,
    on_back = function() end,
  })
  api.nvim_create_autocmd('BufWipeout', {
    buffer = buf,
    callback = function()
      tasks[id] = nil
      latest = latest ~= task and latest or nil
      sessions.forget(id)
    end,
  })
  return task
end

--- Shows a task that is kept.
---@param running vim.lsp.Client
---@param id string
function M.show(running, id)
  local task = watch(id, running.config.root_dir)
  latest = task
  view.show(task.buf)
  sessions.catch_up(running, id)
end

--- Begins a task as the server takes it.
---@param params { prompt: string, mode?: string, textDocument?: table }
---@param buf integer
function M.start(params, buf)
  client.reach(buf, function(running)
    client.ask(running, 'pairwright/task/start', params, function(err, result)
      if err then
        return complain(err)
      end
      M.show(running, result.task)
    end, buf)
  end)
end

--- A prompt with the place it is about.
---@param prompt string
---@param buf integer
---@param range? integer[]
---@return string
local function about(prompt, buf, range)
  if not range then
    return prompt
  end
  local root = nvim.uv.fs_realpath(client.folder(buf)) or client.folder(buf)
  local path = nvim.uv.fs_realpath(api.nvim_buf_get_name(buf)) or api.nvim_buf_get_name(buf)
  if vim.startswith(path, root .. '/') then
    path = path:sub(#root + 2)
  end
  return ('%s\n\nThis is about %s, lines %d to %d.'):format(prompt, path, range[1], range[2])
end

--- Begins a task from what the user wrote; asks for it where nothing was written.
---@param buf integer
---@param prompt? string
---@param range? integer[]
---@param mode? 'plan'|'read-only'|'review'|'auto'
function M.begin(buf, prompt, range, mode)
  if not prompt or prompt == '' then
    vim.ui.input({ prompt = 'Task: ' }, function(text)
      if text and text ~= '' then
        M.begin(buf, text, range, mode)
      end
    end)
    return
  end
  local is_file = vim.bo[buf].buftype == '' and client.of(buf) ~= nil
  M.start({
    prompt = about(prompt, buf, range),
    mode = mode,
    textDocument = is_file and { uri = vim.uri_from_bufnr(buf) } or nil,
  }, buf)
end

--- The task of a buffer, or the one begun last.
---@param buf? integer
---@return pairwright.Task?
local function task_of(buf)
  return tasks[vim.b[buf or 0].pairwright_task or ''] or latest
end

--- Goes to the window of the task.
---@param buf integer
---@return boolean whether there is one
function M.open(buf)
  local task = task_of(buf)
  if task then
    view.show(task.buf)
  end
  return task ~= nil
end

---@param verb 'pause'|'resume'|'stop'|'steer'
---@param text? string
local function control(verb, text)
  local task = task_of()
  if not task then
    return complain('there is no task; :Pairwright task begins one')
  end
  client.reach(task.buf, function(running)
    local params = { task = task.id, text = text }
    client.ask(running, 'pairwright/task/' .. verb, params, function(err)
      if err then
        complain(err)
      end
    end)
  end)
end

function M.pause()
  control('pause')
end

function M.resume()
  control('resume')
end

--- Pauses a task that runs, and goes on with one that does not.
function M.pause_or_resume()
  local task = task_of()
  control(task and (task.is_lost or task.state == 'paused') and 'resume' or 'pause')
end

function M.stop()
  control('stop')
end

--- Tells the model something.
---@param text? string
function M.steer(text)
  if text and text ~= '' then
    return control('steer', text)
  end
  vim.ui.input({ prompt = 'Tell the task: ' }, function(written)
    if written and written ~= '' then
      control('steer', written)
    end
  end)
end

--- Answers what the task asks.
function M.answer()
  local task = task_of()
  if not approval.answer(task and task.id) and not approval.answer() then
    nvim.say('no task asks anything')
  end
end

--- Takes back what the task changed in the files by its mode, or the last edit that stands.
function M.rollback()
  local task = task_of()
  require('pairwright.hunks').roll_back(task and task.rollback)
end

--- Lets the user choose one of the tasks that are kept.
---@param buf integer
function M.choose(buf)
  sessions.list(buf, function(running, all)
    local kept_tasks = vim.tbl_filter(function(session)
      return session.state ~= nil
    end, all)
    if #kept_tasks == 0 then
      return nvim.say('there were no tasks here yet')
    end
    vim.ui.select(kept_tasks, {
      prompt = 'Tasks',
      kind = 'pairwright_session',
      format_item = function(session)
        return ('%s  (%s)'):format(plain.one_line(session.title, 60), session.state)
      end,
    }, function(session)
      if session then
        M.show(running, session.id)
      end
    end)
  end)
end

--- The state of a task that is not over, for a status line; what asks comes first.
---@param root string
---@return string?
function M.line(root)
  local found
  for _, task in pairs(tasks) do
    if task.root == root and not over[task.state] then
      if #task.asked > 0 then
        return 'asks'
      end
      found = task.is_lost and 'cut off' or task.state
    end
  end
  return found
end

return M
