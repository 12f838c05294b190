--- The text of a chat: where the question begins, where the answer goes on, and how both are
--- written.
---
--- Holds: what is written moves neither cursor nor window from what the user looks at, and is no
--- step to undo. Places are known by marks, never by what an answer says.
local fences = require('pairwright.fences')
local plain = require('pairwright.plain')
local view = require('pairwright.view')

local M = {}

local api = vim.api
local namespace = api.nvim_create_namespace('pairwright.chat')

local YOU, MODEL = '## You', '## Pairwright'

---@class pairwright.ChatText
---@field buf integer
---@field heading integer mark: where the question's heading is
---@field here? integer mark: where the answer goes on
---@field turns integer[] marks: where turns begin
---@field label? integer mark: what is known of the answer, at its heading
---@field needs_break boolean the next piece is a paragraph of its own

---@param chat pairwright.ChatText
---@param mark integer
---@return integer row, integer column
local function place(chat, mark)
  local found = api.nvim_buf_get_extmark_by_id(chat.buf, namespace, mark, {})
  return found[1] or 0, found[2] or 0
end

---@param chat pairwright.ChatText
---@param row integer
---@param options? table
---@return integer
local function mark(chat, row, options)
  return api.nvim_buf_set_extmark(chat.buf, namespace, row, 0, options or {})
end

--- Shows something at the end of a line that is not text.
---@param chat pairwright.ChatText
---@param id integer
---@param text string
function M.note(chat, id, text)
  mark(chat, (place(chat, id)), {
    id = id,
    virt_text = { { text, 'PairwrightNote' } },
    virt_text_pos = 'eol',
  })
end

--- Writes what the answer says next.
---@param chat pairwright.ChatText
---@param text string
function M.insert(chat, text)
  if not chat.here or text == '' then
    return
  end
  if chat.needs_break then
    chat.needs_break = false
    text = '\n\n' .. text
  end
  local row, column = place(chat, chat.here)
  view.change(chat.buf, function()
    api.nvim_buf_set_text(chat.buf, row, column, row, column, plain.lines(text))
  end)
end

--- Writes a paragraph of its own.
---@param chat pairwright.ChatText
---@param text string
function M.insert_block(chat, text)
  if not chat.here then
    return
  end
  local row, column = place(chat, chat.here)
  local before = api.nvim_buf_get_text(chat.buf, row, 0, row, column, {})[1]
  chat.needs_break = chat.needs_break or vim.trim(before) ~= ''
  M.insert(chat, text)
  chat.needs_break = true
end

---@param chat pairwright.ChatText
---@param text string
function M.quote(chat, text)
  local lines = plain.lines(text)
  M.insert_block(chat, '> ' .. table.concat(lines, '\n> '))
end

--- The question as it is written so far.
---@param chat pairwright.ChatText
---@return string
function M.question(chat)
  local row = place(chat, chat.heading)
  local lines = api.nvim_buf_get_lines(chat.buf, row + 1, -1, false)
  return vim.trim(table.concat(lines, '\n'))
end

--- Marks the place of an answer whose heading is at `row`.
---@param chat pairwright.ChatText
---@param row integer
local function answer_at(chat, row)
  chat.label = mark(chat, row)
  chat.here = mark(chat, row + 2)
  chat.needs_break = false
  table.insert(chat.turns, mark(chat, row))
end

--- Makes room for an answer below the question that is written, and for the next question.
---@param chat pairwright.ChatText
function M.begin_own_turn(chat)
  view.change(chat.buf, function()
    local last = api.nvim_buf_line_count(chat.buf)
    local is_blank = api.nvim_buf_get_lines(chat.buf, last - 1, last, false)[1] == ''
    local gap = is_blank and {} or { '' }
    local lines = vim.list_extend(gap, { MODEL, '', '', '', YOU, '', '' })
    api.nvim_buf_set_lines(chat.buf, last, last, false, lines)
    local row = last + (is_blank and 0 or 1)
    answer_at(chat, row)
    chat.heading = mark(chat, row + 4)
  end)
  for _, window in ipairs(vim.fn.win_findbuf(chat.buf)) do
    api.nvim_win_set_cursor(window, { api.nvim_buf_line_count(chat.buf), 0 })
  end
end

--- Writes down a question that was asked elsewhere or before, and makes room for its answer.
---@param chat pairwright.ChatText
---@param text string
function M.begin_turn(chat, text)
  local row = place(chat, chat.heading)
  local lines = vim.list_extend({ YOU, '' }, plain.lines(vim.trim(text)))
  vim.list_extend(lines, { '', MODEL, '', '', '' })
  view.change(chat.buf, function()
    api.nvim_buf_set_lines(chat.buf, row, row, false, lines)
  end)
  answer_at(chat, row + #lines - 4)
end

--- Closes a fence that an answer left open, or all that comes would look like code.
---@param chat pairwright.ChatText
function M.close_fence(chat)
  if not chat.here then
    return
  end
  local first, row = place(chat, chat.label), place(chat, chat.here)
  local found = fences.all(api.nvim_buf_get_lines(chat.buf, first, row + 1, false), first)
  local final = found[#found]
  if final and not final.last then
    chat.needs_break = false
    M.insert(chat, '\n' .. final.mark)
    chat.needs_break = true
  end
end

--- The block of code that a row is in, with the line above it, which may be a path.
---@param chat pairwright.ChatText
---@param row integer
---@return string?
function M.block_at(chat, row)
  local first = 0
  for _, turn in ipairs(chat.turns) do
    local at = place(chat, turn)
    first = at <= row and math.max(first, at) or first
  end
  local lines = api.nvim_buf_get_lines(chat.buf, first, -1, false)
  local block = vim.tbl_filter(function(fence)
    return fence.first <= row and fence.last ~= nil and row <= fence.last
  end, fences.all(lines, first))[1]
  if not block then
    return nil
  end
  local from = block.first
  for above = from - 1, math.max(from - 2, first), -1 do
    if vim.trim(lines[above - first + 1]) ~= '' then
      from = above
      break
    end
  end
  return table.concat(api.nvim_buf_get_lines(chat.buf, from, block.last + 1, false), '\n') .. '\n'
end

--- The text of a chat in which nothing was asked yet.
---@param buf integer
---@return pairwright.ChatText
function M.create(buf)
  local chat = { buf = buf, turns = {}, needs_break = false }
  view.change(buf, function()
    api.nvim_buf_set_lines(buf, 0, -1, false, { YOU, '', '' })
  end)
  chat.heading = mark(chat, 0)
  return chat
end

return M
