--- Tasks: begun, watched in a buffer of their own, asked for, steered and stopped.
---
--- Holds: a buffer shows what the record of its task says; it changes only where that changed, so
--- that the cursor stays.
--- Not here: what is known (`task_record.lua`), lines (`task_view.lua`), questions (`approval.lua`),
--- hunks (`hunks.lua`).
local approval = require('pairwright.approval')
local client = require('pairwright.client')
local nvim = require('pairwright.nvim')
local record = require('pairwright.task_record')
local sessions = require('pairwright.sessions')
local view = require('pairwright.view')

local M = {}

local api = vim.api

---@class pairwright.ShownTask: pairwright.Task
---@field buf integer
---@field is_drawing boolean
---@field is_taken_over? boolean its hunks are gone to when it is over

local tasks = {} ---@type table<string, pairwright.ShownTask>
local latest ---@type pairwright.ShownTask?

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

---@param task pairwright.ShownTask
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

---@param task pairwright.ShownTask
local function tell(task)
  draw(task)
  api.nvim_exec_autocmds('User', { pattern = 'PairwrightTask', modeline = false })
end

--- Goes to what a task has changed, from its buffer.
---@param task pairwright.ShownTask
local function hand_over(task)
  task.is_taken_over = false
  if not task.proposal then
    return nvim.say('the task has left no hunks; its last lines say what it changed')
  end
  nvim.say('the task has ended; what it changed waits for a decision')
  -- Who types has gone on already.
  if api.nvim_get_mode().mode == 'n' then
    require('pairwright.hunks').review(task.proposal, task.buf)
  end
end

---@param id string
---@param root string
---@return pairwright.ShownTask
local function watch(id, root)
  local known = tasks[id]
  if known and api.nvim_buf_is_loaded(known.buf) then
    return known
  end
  local buf = view.create('task/' .. id, 'pairwright-task', root)
  vim.bo[buf].modifiable = false
  vim.b[buf].pairwright_task = id
  local task = record.create(id, root) --[[@as pairwright.ShownTask]]
  task.buf, task.is_drawing = buf, false
  tasks[id], latest = task, task
  require('pairwright.keys').view(buf, 'task')
  sessions.follow(id, root, 0, {
    on_event = function(event)
      if record.take(task, event) then
        tell(task)
      end
      if task.is_taken_over and event.kind == 'done' then
        hand_over(task)
      end
    end,
    on_lost = function()
      task.is_lost = not record.over[task.state]
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
        return nvim.complain(err)
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
---@return pairwright.ShownTask?
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
---@param done? fun(err?: string)
local function control(verb, text, done)
  local task = task_of()
  if not task then
    return nvim.complain('there is no task; :Pairwright task begins one')
  end
  local function answered(err)
    if err then
      nvim.complain(err)
    end
    if done then
      done(err)
    end
  end
  client.reach(task.buf, function(running)
    local params = { task = task.id, text = text }
    client.ask(running, 'pairwright/task/' .. verb, params, answered)
  end, answered)
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

--- Ends the task and goes to what it has changed so far.
function M.take_over()
  local task = task_of()
  if task and record.over[task.state] then
    return hand_over(task)
  end
  if task then
    task.is_taken_over = true
  end
  control('stop', nil, function(err)
    if err and task then
      task.is_taken_over = false
    end
  end)
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
  sessions.choose(buf, 'tasks', function(running, session)
    M.show(running, session.id)
  end)
end

--- The state of a task that is not over, for a status line; what asks comes first.
---@param root string
---@return string?
function M.line(root)
  local found
  for _, task in pairs(tasks) do
    if task.root == root and not record.over[task.state] then
      if #task.asked > 0 and not task.is_lost then
        return 'asks'
      end
      found = task.is_lost and 'cut off' or task.state
    end
  end
  return found
end

return M
