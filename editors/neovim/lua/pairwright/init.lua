--- Pairwright in Neovim: what users and their mappings call.
---
--- Nothing here must be called: the plugin works once it is on the runtime path.
local M = {}

--- Changes the plugin's settings. To be called before the first file is opened, if at all;
--- `vim.g.pairwright = { … }` does the same.
---@param settings? table see |pairwright-config|
function M.setup(settings)
  require('pairwright.config').set(settings or {})
end

local function is_native()
  return require('pairwright.config').get().ghost == 'native'
end

--- Whether ghost text stands behind the cursor. Not known of Neovim's own.
---@return boolean
function M.is_visible()
  return require('pairwright.ghost').visible() ~= nil
end

--- Takes all of the suggestion.
---@return boolean whether there was one
function M.accept()
  if is_native() then
    return vim.lsp.inline_completion.get()
  end
  return require('pairwright.ghost').accept()
end

--- Takes its next word.
---@return boolean
function M.accept_word()
  return require('pairwright.ghost').accept_word()
end

--- Takes the rest of its line, or its next line.
---@return boolean
function M.accept_line()
  return require('pairwright.ghost').accept_line()
end

---@param step integer
local function cycle(step)
  if is_native() then
    vim.lsp.inline_completion.select({ count = step })
  else
    require('pairwright.ghost').cycle(step)
  end
end

--- Shows the next suggestion; asks for several when only one is known.
function M.next()
  cycle(1)
end

function M.previous()
  cycle(-1)
end

--- Takes the suggestion off the screen.
---@return boolean
function M.dismiss()
  return require('pairwright.ghost').dismiss()
end

--- Asks for suggestions here and now, also in the middle of a line.
function M.suggest()
  require('pairwright.ghost').suggest()
end

--- Goes to the next hunk that waits for a decision, in this file or another.
function M.next_hunk()
  require('pairwright.hunks').jump(1)
end

function M.previous_hunk()
  require('pairwright.hunks').jump(-1)
end

--- Puts the hunk at the cursor into the text.
function M.accept_hunk()
  require('pairwright.hunks').decide('accept')
end

--- Drops the hunk at the cursor.
function M.reject_hunk()
  require('pairwright.hunks').decide('reject')
end

--- Accepts every hunk of every file, or of this one.
---@param where? 'file'
function M.accept_all(where)
  require('pairwright.hunks').decide_all('accept', where)
end

---@param where? 'file'
function M.reject_all(where)
  require('pairwright.hunks').decide_all('reject', where)
end

--- Takes back the last edit that stands, or the one of `token`.
---@param token? string
function M.rollback(token)
  require('pairwright.hunks').roll_back(token)
end

--- Does the edit again that was taken back last.
function M.redo()
  require('pairwright.edits').redo(vim.api.nvim_get_current_buf())
end

--- Goes to the edit that follows from the last one, and makes it where the cursor is there.
---@return boolean whether one was proposed
function M.next_edit()
  return require('pairwright.next_edit').follow()
end

--- Turns the proposed edit down.
---@return boolean
function M.dismiss_edit()
  return require('pairwright.next_edit').dismiss()
end

--- Opens the chat of this folder; with a question, asks it.
---@param question? string
function M.chat(question)
  require('pairwright.chat').open(vim.api.nvim_get_current_buf(), question)
end

--- Opens the chat with the lines of the selection, which go with the next question.
function M.chat_selection()
  local first, last = vim.fn.line('v'), vim.fn.line('.')
  local buf = vim.api.nvim_get_current_buf()
  vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes('<Esc>', true, false, true), 'nx', false)
  require('pairwright.chat').open(buf, nil, { math.min(first, last), math.max(first, last) })
end

--- Sends the question that is written in a chat.
function M.chat_send()
  require('pairwright.chat').send()
end

--- Stops the answer that is being written.
function M.chat_stop()
  require('pairwright.chat').stop()
end

--- Makes hunks of the block of code at the cursor in a chat.
function M.chat_review()
  require('pairwright.chat').review()
end

--- Begins a task; without a prompt, asks for one.
---@param prompt? string
function M.task(prompt)
  require('pairwright.task').begin(vim.api.nvim_get_current_buf(), prompt)
end

--- Answers what a task asks.
function M.task_answer()
  require('pairwright.task').answer()
end

--- Pauses the task, or goes on with it.
function M.task_pause()
  require('pairwright.task').pause_or_resume()
end

--- Tells the task's model something.
---@param text? string
function M.task_steer(text)
  require('pairwright.task').steer(text)
end

--- Ends the task.
function M.task_stop()
  require('pairwright.task').stop()
end

--- Ends the task and goes to what it has changed so far, to be decided by hand.
function M.task_takeover()
  require('pairwright.task').take_over()
end

--- Switches ghost text in one buffer.
---@param on boolean
---@param buf? integer
function M.enable_buffer(on, buf)
  buf = buf or vim.api.nvim_get_current_buf()
  vim.b[buf].pairwright_enabled = on
  if not on then
    require('pairwright.ghost').dismiss()
  end
end

return M
