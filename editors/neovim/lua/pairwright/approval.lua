--- What tasks ask: kept until the user answers, by `vim.ui.select`.
---
--- Holds: nothing is allowed that was not chosen. Closing the list is no answer; the task waits on.
--- A list opens by itself only for who looks at the task and is not typing.
local nvim = require('pairwright.nvim')
local plain = require('pairwright.plain')

local M = {}

--- Characters of a command that a list shows; all of it stands in the task's buffer.
local SHOWN = 200

---@class pairwright.Approval
---@field task string
---@field approval string
---@field subject table
---@field risk string
---@field reason string
---@field scopes string[]

---@class pairwright.Waiting
---@field asked pairwright.Approval
---@field client_id integer
---@field answer fun(answer: table)

local waiting = {} ---@type pairwright.Waiting[]

--- What is asked for, in words.
---@param asked pairwright.Approval
---@return string
function M.words(asked)
  local subject = asked.subject
  if subject.type == 'command' then
    local command, n_more = plain.one_line(subject.command, SHOWN)
    local more = n_more > 0 and (' (%d more characters, see :Pairwright task)'):format(n_more) or ''
    return ('run `%s`%s'):format(command, more)
  elseif subject.type == 'edit' then
    return 'change ' .. plain.visible(subject.path)
  elseif subject.type == 'tool' then
    local arguments = plain.one_line(subject.arguments, SHOWN)
    return ('call %s with %s'):format(plain.visible(subject.tool), arguments)
  elseif subject.type == 'network' then
    local host = plain.visible(subject.host)
    return ('let `%s` reach %s'):format(plain.one_line(subject.command, SHOWN), host)
  elseif subject.type == 'budget' then
    return 'go on beyond ' .. plain.visible(subject.what)
  end
  return (plain.one_line(subject.text, SHOWN))
end

--- What a longer yes would remember, by what is asked for.
local longer = {
  command = { 'remembered', 'what begins with `%s`' },
  edit = { 'path', 'changes of %s' },
  tool = { 'tool', 'calls of %s' },
  network = { 'host', 'what reaches %s' },
}

--- What a longer yes would remember, to the letter and in words; nil where there is none.
---@param subject table
---@return string?, string?
function M.remembered(subject)
  local known = longer[subject.type]
  if known then
    local what = plain.visible(subject[known[1]])
    return what, known[2]:format(what)
  end
end

---@class pairwright.Choice
---@field title string
---@field answer? table
---@field wants? string what to write first

--- What may be answered. No comes first, so that a key too many allows nothing.
---@param asked pairwright.Approval
---@return pairwright.Choice[]
local function choices(asked)
  local subject = asked.subject
  local all = {}
  if subject.type == 'question' then
    for _, option in ipairs(subject.options or {}) do
      local title = plain.one_line(option, SHOWN)
      table.insert(all, { title = title, answer = { decision = 'yes', text = option } })
    end
    local write = { title = 'Write an answer …', answer = { decision = 'yes' }, wants = 'Answer: ' }
    table.insert(all, write)
    table.insert(all, { title = 'No answer', answer = { decision = 'no' } })
    return all
  end
  table.insert(all, { title = 'No', answer = { decision = 'no' } })
  table.insert(all, {
    title = 'No, and say what to do instead …',
    answer = { decision = 'no' },
    wants = 'Instead: ',
  })
  local _, remembered = M.remembered(subject)
  local what = remembered or M.words(asked)
  local titles = {
    once = 'Yes, this once',
    task = 'Yes, and for the rest of this task: ' .. what,
    repository = 'Yes, and for every task in this folder: ' .. what,
  }
  for _, scope in ipairs(asked.scopes) do
    if titles[scope] then
      table.insert(all, { title = titles[scope], answer = { decision = 'yes', scope = scope } })
    end
  end
  return all
end

---@param task? string
---@return pairwright.Waiting?
local function next_of(task)
  for _, one in ipairs(waiting) do
    if not task or one.asked.task == task then
      return one
    end
  end
end

---@param one pairwright.Waiting
---@param answer table
local function finish(one, answer)
  for i, other in ipairs(waiting) do
    if other == one then
      table.remove(waiting, i)
      one.answer(answer)
      return
    end
  end
end

--- Lets the user answer what a task asks, or any task.
---@param task? string
---@return boolean whether something is asked
function M.answer(task)
  local one = next_of(task)
  if not one then
    return false
  end
  local asked = one.asked
  local prompt = asked.subject.type == 'question' and 'The task asks: ' .. M.words(asked)
    or ('The task wants to %s (%s)'):format(M.words(asked), (plain.one_line(asked.reason, SHOWN)))
  vim.ui.select(choices(asked), {
    prompt = prompt,
    kind = 'pairwright_approval',
    format_item = function(choice)
      return choice.title
    end,
  }, function(choice)
    if not choice then
      return
    end
    if not choice.wants then
      return finish(one, choice.answer)
    end
    vim.ui.input({ prompt = choice.wants }, function(text)
      if text and text ~= '' then
        finish(one, vim.tbl_extend('force', choice.answer, { text = text }))
      end
    end)
  end)
  return true
end

--- Takes a question of a task; returns once it is answered.
---@param asked pairwright.Approval
---@param client_id integer
---@return table|userdata
function M.wait(asked, client_id)
  local thread, is_main = coroutine.running()
  if not thread or is_main then
    return vim.NIL
  end
  table.insert(waiting, {
    asked = asked,
    client_id = client_id,
    answer = function(answer)
      coroutine.resume(thread, answer)
    end,
  })
  vim.schedule(function()
    local is_watched = vim.b.pairwright_task == asked.task and vim.api.nvim_get_mode().mode == 'n'
    if not (is_watched and M.answer(asked.task)) then
      local message = 'the task wants to %s; :Pairwright task answer'
      if asked.subject.type == 'question' then
        message = 'the task asks: %s; :Pairwright task answer'
      end
      nvim.say(message:format(M.words(asked)), vim.log.levels.WARN)
    end
  end)
  return coroutine.yield()
end

--- Something was decided elsewhere, or by the task's end.
---@param approval string
function M.decided(approval)
  for _, one in ipairs(waiting) do
    if one.asked.approval == approval then
      return finish(one, vim.NIL)
    end
  end
end

--- A task was paused: what it asked will be asked again.
---@param approval string
function M.drop(approval)
  waiting = vim.tbl_filter(function(one)
    return one.asked.approval ~= approval
  end, waiting)
end

--- What was asked by a server that is gone will be asked again.
---@param client_id integer
function M.forget(client_id)
  waiting = vim.tbl_filter(function(one)
    return one.client_id ~= client_id
  end, waiting)
end

return M
