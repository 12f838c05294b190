--- Ghost text: when it is asked for, when it is shown, and what is done with it.
---
--- Holds: what is on screen always continues the text before the cursor; an answer is shown only
--- if neither text nor cursor changed since the question. Typing what is shown asks nothing.
--- At most one question is under way; a newer one cancels it.
--- Not here: drawing (`draw.lua`), which keys do what (`keys.lua`).
local config = require('pairwright.config')
local draw = require('pairwright.draw')
local menu = require('pairwright.menu')
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api

--- A typist's pause, in milliseconds: the first key after it is asked about at once.
local PAUSE = 300
--- Longest wait for the next key while typing, in milliseconds. The server waits for a model in
--- its own rhythm; this only keeps bursts of keys (repeats, pastes) from becoming requests.
local LONGEST_WAIT = 20

local INVOKED, AUTOMATIC = 1, 2

---@class pairwright.Item
---@field text string What stands before the cursor on its line, from `start` on, and what follows.
---@field start integer Byte column.
---@field replaced integer Bytes after the cursor that the item replaces.
---@field sent table The item as the server sent it.

---@class pairwright.Shown
---@field buf integer
---@field row integer
---@field after string The line's text after the cursor.
---@field items pairwright.Item[]
---@field index integer
---@field told table<integer, boolean> Items the server was told to be on screen.

--- Buffers in which this shows ghost text.
local attached = {} ---@type table<integer, true>
local shown ---@type pairwright.Shown?
local asking ---@type { client: vim.lsp.Client, id: integer }?
local timer = nvim.uv.new_timer()
local last_key = 0
local gap = PAUSE
--- The state that was looked at last; one key can raise several events.
local seen = { tick = -1, row = -1, column = -1, menu = false }

--- The place of the cursor: row from 0, column in bytes, and the line.
---@return integer, integer, string
local function cursor()
  local at = api.nvim_win_get_cursor(0)
  return at[1] - 1, at[2], api.nvim_get_current_line()
end

---@return boolean
local function in_insert_mode()
  return api.nvim_get_mode().mode:sub(1, 1) == 'i'
end

---@param buf integer
---@return boolean
local function is_wanted(buf)
  return config.get().filetypes[vim.bo[buf].filetype] ~= false
    and vim.b[buf].pairwright_enabled ~= false
    and not (menu.is_open() and config.get().hide_with_menu)
    and vim.fn.reg_executing() == ''
end

local function cancel()
  timer:stop()
  if asking then
    if not nvim.is_stopped(asking.client) then
      nvim.cancel(asking.client, asking.id)
    end
    asking = nil
  end
end

local function hide()
  if shown then
    draw.clear(shown.buf)
    shown = nil
  end
end

--- The part of the current item that is not typed yet; nil when the text went another way.
---@return string?
local function rest()
  if not shown or shown.buf ~= api.nvim_get_current_buf() then
    return nil
  end
  local row, column, line = cursor()
  local item = shown.items[shown.index]
  if row ~= shown.row or column < item.start or line:sub(column + 1) ~= shown.after then
    return nil
  end
  local typed = line:sub(item.start + 1, column)
  if item.text:sub(1, #typed) ~= typed or #item.text == #typed then
    return nil
  end
  return item.text:sub(#typed + 1)
end

--- Draws the current item behind the cursor and tells the server that it can be seen.
---@param text string
local function show(text)
  local current = assert(shown)
  local row, column, line = cursor()
  local item = current.items[current.index]
  draw.show(current.buf, row, column, line, text, item.replaced)
  if not current.told[current.index] then
    current.told[current.index] = true
    local client = require('pairwright.client').of(current.buf)
    if client then
      nvim.notify(client, 'textDocument/didShowCompletion', { item = item.sent })
    end
  end
end

--- Reads an item of an answer; nil when it cannot continue the text at the cursor.
---@param sent table
---@param row integer
---@param column integer
---@param line string
---@param encoding string
---@return pairwright.Item?
local function read_item(sent, row, column, line, encoding)
  local text = sent.insertText
  if type(text) ~= 'string' then
    return nil
  end
  text = text:gsub('\r\n', '\n')
  local range = sent.range
  if not range then
    return { text = text, start = column, replaced = 0, sent = sent }
  end
  if range.start.line ~= row or range['end'].line ~= row then
    return nil
  end
  local start = nvim.byte_column(line, range.start.character, encoding)
  local stop = nvim.byte_column(line, range['end'].character, encoding)
  if start > column or stop < column then
    return nil
  end
  local typed = line:sub(start + 1, column)
  if text:sub(1, #typed) ~= typed or #text == #typed then
    return nil
  end
  return { text = text, start = start, replaced = stop - column, sent = sent }
end

--- Asks for text at the cursor; `done` gets the number of items shown.
---@param kind integer
---@param done? fun(count: integer)
local function ask(kind, done)
  cancel()
  local buf = api.nvim_get_current_buf()
  local client = require('pairwright.client').of(buf)
  if not client or not in_insert_mode() or not is_wanted(buf) then
    return
  end
  local encoding = client.offset_encoding or 'utf-16'
  local row, column, line = cursor()
  local tick = api.nvim_buf_get_changedtick(buf)
  local params = {
    textDocument = { uri = vim.uri_from_bufnr(buf) },
    position = { line = row, character = nvim.character(line, column, encoding) },
    context = { triggerKind = kind },
  }
  local question = { client = client }
  question.id = nvim.request(client, 'textDocument/inlineCompletion', params, function(err, result)
    if asking ~= question then
      return
    end
    asking = nil
    local now_row, now_column = cursor()
    local is_stale = api.nvim_get_current_buf() ~= buf
      or api.nvim_buf_get_changedtick(buf) ~= tick
      or now_row ~= row
      or now_column ~= column
    if is_stale or err or not in_insert_mode() or not is_wanted(buf) then
      return
    end
    local items = {}
    for _, sent in ipairs(result and (result.items or result) or {}) do
      table.insert(items, read_item(sent, row, column, line, encoding))
    end
    hide()
    if #items > 0 then
      local after = line:sub(column + 1)
      shown = { buf = buf, row = row, after = after, items = items, index = 1, told = {} }
      show(assert(rest()))
    end
    if done then
      done(#items)
    end
  end, buf)
  if question.id then
    asking = question
  end
end

--- How long to wait before asking, in milliseconds, from the typist's rhythm.
---@return integer
local function wait()
  local now = nvim.uv.now()
  local since = now - last_key
  last_key = now
  if since > PAUSE then
    gap = PAUSE
    return 0
  end
  gap = 0.7 * gap + 0.3 * since
  return math.floor(math.min(LONGEST_WAIT, gap / 4))
end

--- Follows what happened in the buffer: keeps, changes or hides what is shown.
---@param buf integer
local function changed(buf)
  local row, column = cursor()
  local tick = api.nvim_buf_get_changedtick(buf)
  local has_menu = menu.is_open()
  local is_same = seen.buf == buf
    and seen.tick == tick
    and seen.row == row
    and seen.column == column
    and seen.menu == has_menu
  if is_same then
    return
  end
  seen = { buf = buf, tick = tick, row = row, column = column, menu = has_menu }
  local text = is_wanted(buf) and rest()
  if text then
    cancel()
    last_key = nvim.uv.now()
    return show(text)
  end
  hide()
  cancel()
  if not is_wanted(buf) then
    return
  end
  local milliseconds = wait()
  if milliseconds == 0 then
    ask(AUTOMATIC)
  else
    timer:start(milliseconds, 0, vim.schedule_wrap(function()
      ask(AUTOMATIC)
    end))
  end
end

--- Length of the beginning of `sent` that is `taken` without carriage returns, as the protocol counts.
---@param sent string
---@param taken string
---@return integer
local function sent_length(sent, taken)
  local length = nvim.utf16_length(taken)
  local _, n_ends = taken:gsub('\n', '')
  for carriage in sent:gmatch('(\r?)\n') do
    if n_ends == 0 then
      break
    end
    n_ends = n_ends - 1
    length = length + #carriage
  end
  return length
end

--- Puts the first `length` bytes of the rest into the buffer.
---@param length fun(text: string): integer
---@return boolean
local function accept(length)
  local text = rest()
  if not text then
    hide()
    return false
  end
  local current = assert(shown)
  local item = current.items[current.index]
  local row, column, line = cursor()
  local part = text:sub(1, length(text))
  local is_all = #part == #text
  cancel()
  draw.clear(current.buf)
  -- What is taken is undone on its own.
  vim.o.undolevels = vim.o.undolevels
  local lines = vim.split(part, '\n', { plain = true })
  local stop = column + (is_all and item.replaced or 0)
  api.nvim_buf_set_text(current.buf, row, column, row, stop, lines)
  local last = #lines == 1 and column + #part or #lines[#lines]
  api.nvim_win_set_cursor(0, { row + #lines, last })
  local client = require('pairwright.client').of(current.buf)
  if is_all then
    hide()
    if client and item.sent.command then
      require('pairwright.client').execute(
        current.buf,
        item.sent.command.command,
        item.sent.command.arguments
      )
    end
    return true
  end
  if #lines > 1 then
    -- The item goes on in a line of its own; the others do not.
    local before = column - item.start + #part - last
    item.text = item.text:sub(before + 1)
    item.start = 0
    current.items, current.index, current.told = { item }, 1, { true }
    current.row = row + #lines - 1
  end
  if client then
    local taken = item.sent.insertText:gsub('\r\n', '\n')
    local accepted = sent_length(item.sent.insertText, taken:sub(1, #taken - (#text - #part)))
    local params = { item = item.sent, acceptedLength = accepted }
    nvim.notify(client, 'textDocument/didPartiallyAcceptCompletion', params)
  end
  local left = rest()
  if left then
    show(left)
  end
  return true
end

--- Bytes up to the end of the next word, or of the next run of other characters.
---@param text string
---@return integer
local function word_length(text)
  local word = text:match('^%s*[%w_\128-\255]+') or text:match('^%s*[^%w_%s\128-\255]+')
  return word and #word or #text
end

--- Bytes up to the end of the line; of the next one where the cursor stands at the end of one.
---@param text string
---@return integer
local function line_length(text)
  return #text:match('^\n*[^\n]*')
end

---@return boolean
function M.accept()
  return accept(function(text)
    return #text
  end)
end

---@return boolean
function M.accept_word()
  return accept(word_length)
end

---@return boolean
function M.accept_line()
  return accept(line_length)
end

--- Shows the suggestion `step` places further. Where only one is known, others are asked for.
---@param step integer
function M.cycle(step)
  if shown and #shown.items > 1 then
    local before = shown.index
    repeat
      shown.index = (shown.index - 1 + step) % #shown.items + 1
    until rest() or shown.index == before
    local text = rest()
    if text then
      return show(text)
    end
    -- Keys before this one led the text elsewhere.
    hide()
  end
  ask(INVOKED, function(count)
    if count > 1 and step ~= 0 then
      M.cycle(step)
    end
  end)
end

--- Asks although nobody typed.
function M.suggest()
  ask(INVOKED)
end

--- Takes the suggestion away and tells the server that it was not wanted.
---@return boolean
function M.dismiss()
  cancel()
  if not shown then
    return false
  end
  local item = shown.items[shown.index]
  local id = item.sent.command and (item.sent.command.arguments or {})[1]
  if id and require('pairwright.client').of(shown.buf) then
    require('pairwright.client').execute(shown.buf, 'pairwright.didRejectCompletion', { id })
  end
  hide()
  return true
end

--- The text behind the cursor that is not in the buffer; nil when there is none.
---@return string?
function M.visible()
  return rest()
end

---@param client vim.lsp.Client
---@param buf integer
function M.attach(client, buf)
  local who = config.get().ghost
  if nvim.has_native_ghost then
    vim.lsp.inline_completion.enable(who == 'native', { client_id = client.id })
  end
  require('pairwright.keys').attach()
  if who ~= 'plugin' then
    return
  end
  menu.follow(function()
    -- Told while the plugin draws.
    vim.schedule(function()
      local now = api.nvim_get_current_buf()
      if in_insert_mode() and attached[now] then
        changed(now)
      end
    end)
  end)
  attached[buf] = true
  local group = api.nvim_create_augroup('pairwright.ghost.' .. buf, {})
  local events = {
    'InsertEnter',
    'TextChangedI',
    'TextChangedP',
    'CursorMovedI',
    'CompleteChanged',
    'CompleteDone',
  }
  api.nvim_create_autocmd(events, {
    group = group,
    buffer = buf,
    callback = function(event)
      if event.event == 'CompleteChanged' or event.event == 'InsertEnter' then
        -- These come before the menu is drawn, and before insert mode has begun.
        return vim.schedule(function()
          if in_insert_mode() and api.nvim_get_current_buf() == buf then
            changed(buf)
          end
        end)
      end
      changed(buf)
    end,
  })
  api.nvim_create_autocmd({ 'InsertLeave', 'BufLeave' }, {
    group = group,
    buffer = buf,
    callback = function()
      seen.tick = -1
      cancel()
      hide()
    end,
  })
  api.nvim_create_autocmd('BufEnter', {
    group = group,
    buffer = buf,
    callback = function()
      local now = require('pairwright.client').of(buf)
      if now then
        local params = { textDocument = { uri = vim.uri_from_bufnr(buf) } }
        nvim.notify(now, 'textDocument/didFocus', params)
      end
    end,
  })
  if in_insert_mode() and api.nvim_get_current_buf() == buf then
    changed(buf)
  end
end

---@param buf integer
function M.detach(buf)
  if shown and shown.buf == buf then
    hide()
  end
  attached[buf] = nil
  pcall(api.nvim_del_augroup_by_name, 'pairwright.ghost.' .. buf)
end

return M
