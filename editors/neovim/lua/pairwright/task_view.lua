--- A task as lines: what was asked, where it is, what it did, what it asks.
---
--- Holds: however much a task does, what is shown is bounded. Nothing of it is obeyed or hidden.
local approval = require('pairwright.approval')
local plain = require('pairwright.plain')

local M = {}

--- Steps shown, lines of output and of what the model says, and characters of a line.
local STEPS, OUTPUT, SAID, WIDTH = 100, 8, 8, 200
--- Lines of hunks shown while a task works.
local HUNKS = 60

local words = {
  planning = 'plans',
  running = 'works',
  paused = 'is paused',
  waiting_approval = 'waits for an answer',
  succeeded = 'has succeeded',
  failed = 'has failed',
  cancelled = 'was stopped',
}
local boxes = { pending = '[ ]', in_progress = '[~]', done = '[x]' }
local outcomes = { done = '✓', failed = '✗', denied = '–', unknown = '?' }

--- The last lines of a text, each cut.
---@param text string
---@param most integer
---@param indent string
---@return string[]
local function tail(text, most, indent)
  local lines = vim.tbl_filter(function(line)
    return vim.trim(line) ~= ''
  end, plain.lines(text))
  local shown = {}
  for i = math.max(#lines - most + 1, 1), #lines do
    local line = plain.visible((lines[i]:gsub('\t', '  ')))
    table.insert(shown, indent .. vim.fn.strcharpart(line, 0, WIDTH))
  end
  return shown
end

---@param tool string
---@param arguments string JSON as the model wrote it
---@return string
local function about(tool, arguments)
  local read, value = pcall(vim.json.decode, arguments)
  local text = arguments
  if read and type(value) == 'table' then
    text = ''
    for _, name in ipairs({ 'command', 'path', 'query', 'pattern', 'question', 'summary' }) do
      if type(value[name]) == 'string' then
        text = value[name]
        break
      end
    end
  end
  return vim.trim(plain.one_line(tool, 40) .. ' ' .. plain.one_line(text, WIDTH))
end

---@param milliseconds number
---@return string
local function seconds(milliseconds)
  return ('%.1f s'):format(milliseconds / 1000)
end

---@param task pairwright.Task
---@return string
local function spent(task)
  local taken, most = task.spent, task.ceilings
  local parts = { ('%d of %d steps'):format(taken.steps or 0, most.steps or 0) }
  table.insert(parts, ('%d of %d tokens'):format(taken.tokens or 0, most.tokens or 0))
  if (taken.cost or 0) > 0 or most.cost then
    local limit = most.cost and (' of $%.2f'):format(most.cost) or ''
    table.insert(parts, ('$%.4f%s'):format(taken.cost or 0, limit))
  end
  table.insert(parts, ('%.0f of %d s'):format((taken.wall or 0) / 1000, most.wall or 0))
  return table.concat(parts, ', ')
end

--- What is asked for in full, and what is said above it.
---@param subject table
---@return string? heading, string? text
local function in_full(subject)
  if subject.type == 'command' then
    return 'run:', subject.command
  elseif subject.type == 'tool' then
    return ('call %s with:'):format(plain.visible(subject.tool)), subject.arguments
  elseif subject.type == 'network' then
    return ('let this reach %s:'):format(plain.visible(subject.host)), subject.command
  end
end

---@param lines string[]
---@param asked pairwright.Approval
local function add_approval(lines, asked)
  local subject = asked.subject
  vim.list_extend(lines, { '', '## It asks  (<CR> answers)', '' })
  if subject.type == 'question' then
    vim.list_extend(lines, tail(subject.text, OUTPUT * 4, '  '))
    return
  end
  local heading, text = in_full(subject)
  table.insert(lines, '  ' .. (heading or approval.words(asked)))
  for _, line in ipairs(text and plain.lines(text) or {}) do
    table.insert(lines, '    ' .. plain.visible(line))
  end
  local reason = plain.one_line(asked.reason, WIDTH)
  table.insert(lines, ('  because: %s (risk: %s)'):format(reason, asked.risk))
  local remembered = approval.remembered(subject)
  if remembered then
    table.insert(lines, '  a longer yes would remember: ' .. remembered)
  end
end

---@param lines string[]
---@param task pairwright.Task
local function add_steps(lines, task)
  vim.list_extend(lines, { '', '## Steps', '' })
  local first = math.max(#task.steps - STEPS + 1, 1)
  if first > 1 then
    table.insert(lines, ('  … %d steps before'):format(first - 1))
  end
  for i = first, #task.steps do
    local step = task.steps[i]
    if step.said then
      vim.list_extend(lines, tail(step.said, SAID, '  '))
    else
      local mark = step.outcome and outcomes[step.outcome] or (step.is_running and '…' or ' ')
      local line = ('  %s %s'):format(mark, about(step.tool, step.arguments))
      if step.took then
        line = line .. '  ' .. seconds(step.took)
      end
      if step.tier then
        line = line .. ', in a sandbox (' .. plain.one_line(step.tier, 40) .. ')'
      end
      table.insert(lines, line)
      if step.output then
        vim.list_extend(lines, tail(step.output, OUTPUT, '      '))
      end
    end
  end
end

--- What is changed so far, hunk by hunk until they can be decided.
---@param lines string[]
---@param task pairwright.Task
local function add_changes(lines, task)
  vim.list_extend(lines, { '', '## Changes', '' })
  local left = (task.proposal or task.rollback) and 0 or HUNKS
  for i = 1, math.min(#task.files, STEPS) do
    local file = task.files[i]
    local path = plain.visible(file.path)
    table.insert(lines, ('  %s +%d -%d'):format(path, file.added, file.removed))
    local patch = vim.trim(task.patches[file.path] or '')
    local hunks = patch == '' and {} or plain.lines(patch)
    for n = 1, math.min(#hunks, left) do
      local line = plain.visible((hunks[n]:gsub('\t', '  ')))
      table.insert(lines, '      ' .. vim.fn.strcharpart(line, 0, WIDTH))
    end
    left = math.max(left - #hunks, 0)
  end
  if task.rollback then
    table.insert(lines, '  They are in the files; :Pairwright task rollback takes them back.')
  elseif task.proposal then
    table.insert(lines, '  They wait for a decision: ]h, or :Pairwright hunks.')
  end
end

--- The lines of a task.
---@param task pairwright.Task
---@return string[]
function M.lines(task)
  local lines = { '# Task', '' }
  vim.list_extend(lines, tail(task.prompt, OUTPUT * 2, ''))
  local state = task.is_lost and 'was cut off; :Pairwright task resume' or words[task.state] or ''
  if task.why and not task.is_lost then
    state = state .. ': ' .. plain.one_line(task.why, WIDTH):gsub('%.$', '')
  end
  vim.list_extend(lines, { '', ('It %s. %s.'):format(state, spent(task)) })
  if task.summary then
    table.insert(lines, '')
    vim.list_extend(lines, tail(task.summary, OUTPUT * 4, ''))
  end
  for _, asked in ipairs(task.is_lost and {} or task.asked) do
    add_approval(lines, asked)
  end
  if #task.plan > 0 then
    vim.list_extend(lines, { '', '## Plan', '' })
    for i = 1, math.min(#task.plan, STEPS) do
      local item = task.plan[i]
      local text = plain.one_line(item.text, WIDTH)
      table.insert(lines, ('  %s %s'):format(boxes[item.state] or '', text))
    end
  end
  if #task.files > 0 then
    add_changes(lines, task)
  end
  if task.writing then
    local path = plain.one_line(task.writing.path or 'a file', WIDTH)
    vim.list_extend(lines, { '', ('## Writing %s'):format(path), '' })
    vim.list_extend(lines, tail(task.writing.text, OUTPUT, '  '))
  end
  if #task.steps > 0 then
    add_steps(lines, task)
  end
  return lines
end

return M
