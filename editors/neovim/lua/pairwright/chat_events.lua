--- What happens in a chat, written into its text.
local page = require('pairwright.chat_text')
local plain = require('pairwright.plain')

local M = {}

local api = vim.api

--- Pieces shown to a model that are named.
local NAMED = 3

---@param chat pairwright.Chat
---@param shown table[]
local function note_shown(chat, shown)
  local names = {}
  for i = 1, math.min(#shown, NAMED) do
    names[i] = (plain.one_line(shown[i].title, 40))
  end
  if #shown > NAMED then
    table.insert(names, ('%d more'):format(#shown - NAMED))
  end
  page.note(chat, chat.label, #names > 0 and 'shown ' .. table.concat(names, ', ') or '')
end

---@param chat pairwright.Chat
---@param places table[]
local function cite(chat, places)
  local lines = vim.tbl_map(function(found)
    return '- ' .. found.path .. (found.firstLine and (':%d'):format(found.firstLine) or '')
  end, places)
  page.insert_block(chat, table.concat(lines, '\n'))
end

---@param chat pairwright.Chat
---@param files table[]
local function tell_hunks(chat, files)
  local changes = vim.tbl_map(function(file)
    return ('%s +%d -%d'):format(file.path, file.added, file.removed)
  end, files)
  local where = table.concat(changes, ', ')
  page.quote(chat, ('Hunks to decide in %s; see `:Pairwright hunks`.'):format(where))
end

--- Writes down what happened.
---@param chat pairwright.Chat
---@param event pairwright.Event
function M.take(chat, event)
  if not api.nvim_buf_is_loaded(chat.buf) then
    return
  end
  local kind = event.kind
  if kind == 'question' then
    if chat.is_own then
      chat.is_own = false
    else
      page.begin_turn(chat, event.text)
    end
    chat.is_busy = true
    note_shown(chat, event.shown or {})
  elseif kind == 'message' then
    page.insert(chat, event.text)
  elseif kind == 'notice' then
    page.quote(chat, event.text)
  elseif kind == 'cited' then
    cite(chat, event.places)
  elseif kind == 'diff' and event.proposal then
    tell_hunks(chat, event.files)
  elseif kind == 'done' then
    page.close_fence(chat)
    chat.is_busy = false
    if event.reason == 'stopped' then
      page.quote(chat, 'Stopped.')
    elseif event.summary then
      page.quote(chat, event.summary)
    end
    api.nvim_exec_autocmds('User', { pattern = 'PairwrightAnswered', modeline = false })
  end
end

--- An answer that nobody writes any more.
---@param chat pairwright.Chat
---@param why string
function M.break_off(chat, why)
  if chat.is_busy and api.nvim_buf_is_loaded(chat.buf) then
    page.close_fence(chat)
    page.quote(chat, why)
  end
  chat.is_busy, chat.is_own = false, false
end

return M
