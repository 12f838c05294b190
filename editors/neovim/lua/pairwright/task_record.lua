--- What is known of a task, from the events of its record.
---
--- Holds: however long a task runs, what is kept of it is bounded.
local approval = require('pairwright.approval')

local M = {}

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
---@field root string
---@field prompt string
---@field state string
---@field why? string
---@field is_lost boolean
---@field summary? string
---@field plan table[]
---@field files table[]
---@field patches table<string, string> hunks so far, by path
---@field writing? { call: string, path?: string, text: string } what its model writes into a file
---@field proposal? string
---@field rollback? string
---@field steps pairwright.Step[]
---@field asked pairwright.Approval[]
---@field spent table
---@field ceilings table

--- States that a task does not leave.
M.over = { succeeded = true, failed = true, cancelled = true }

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

function takes.writing(task, event)
  local writing = task.writing
  if not writing or writing.call ~= event.call then
    writing = { call = event.call, path = event.path, text = '' }
  end
  writing.text = kept(writing.text, event.text)
  task.writing = writing
end

function takes.mode(task, event)
  add(task, { said = ('%s: %s'):format(event.why, event.mode) })
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
  for _, file in ipairs(event.files) do
    task.patches[file.path] = file.patch or task.patches[file.path]
  end
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
  -- What was written is a call now.
  task.writing = nil
end

function takes.status(task, event)
  task.state, task.why = event.state, event.why
  task.is_lost, task.writing = false, nil
  for _, asked in ipairs(task.asked) do
    if M.over[event.state] then
      approval.decided(asked.approval)
    elseif event.state == 'paused' then
      approval.drop(asked.approval)
    end
  end
  if M.over[event.state] then
    task.asked = {}
  end
end

function takes.done(task, event)
  task.summary = event.summary
end

---@param id string
---@param root string
---@return pairwright.Task
function M.create(id, root)
  local task = { id = id, root = root, prompt = '', state = 'planning', is_lost = false }
  task.plan, task.files, task.steps, task.asked = {}, {}, {}, {}
  task.patches = {}
  task.spent, task.ceilings = {}, {}
  return task
end

--- Takes an event; false where it changes nothing.
---@param task pairwright.Task
---@param event pairwright.Event
---@return boolean
function M.take(task, event)
  local take = takes[event.kind]
  if take then
    take(task, event)
  end
  return take ~= nil
end

return M
