--- The next edit: the server's proposal of what follows elsewhere from the last change.
---
--- Asked for once the text has been left alone for a moment; drawn where it would be made, or
--- pointed to from the cursor's line when that is out of sight. One key goes there, and makes it
--- where the cursor is on its line already.
---
--- Holds: a proposal is dropped as soon as its text or the buffer's changes; making it is one
--- step to undo.
local config = require('pairwright.config')
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api
local namespace = api.nvim_create_namespace('pairwright.next_edit')
local group = api.nvim_create_augroup('pairwright.next_edit', {})

--- How long text is left alone before the server is asked, in milliseconds.
local PAUSE = 300

---@class pairwright.NextEdit
---@field buf integer
---@field tick integer
---@field row integer
---@field first integer Byte of the row from which text gives way,
---@field end_row integer
---@field last integer to this byte of this row.
---@field text string
---@field command table

local shown ---@type pairwright.NextEdit?
local pointed ---@type integer? buffer with a pointer at the cursor's line
local asking ---@type { client: vim.lsp.Client, id: integer? }?
local timer = nvim.uv.new_timer()

local function hide()
  for _, buf in ipairs({ shown and shown.buf or -1, pointed or -1 }) do
    if buf >= 0 and api.nvim_buf_is_valid(buf) then
      api.nvim_buf_clear_namespace(buf, namespace, 0, -1)
    end
  end
  shown, pointed = nil, nil
end

---@return integer row from 0
local function cursor_row()
  return api.nvim_win_get_cursor(0)[1] - 1
end

---@param edit pairwright.NextEdit
local function is_in_sight(edit)
  return edit.buf == api.nvim_get_current_buf()
    and vim.fn.line('w0') <= edit.row + 1
    and edit.row + 1 <= vim.fn.line('w$')
end

---@param edit pairwright.NextEdit
local function draw(edit)
  -- A line of the screen holds no ends of lines.
  local new = edit.text == '' and 'delete' or edit.text:gsub('\r?\n', '⏎')
  if is_in_sight(edit) then
    if edit.end_row > edit.row or edit.last > edit.first then
      api.nvim_buf_set_extmark(edit.buf, namespace, edit.row, edit.first, {
        end_row = edit.end_row,
        end_col = edit.last,
        hl_group = 'PairwrightRemoved',
      })
    end
    if edit.text ~= '' then
      api.nvim_buf_set_extmark(edit.buf, namespace, edit.end_row, edit.last, {
        virt_text = { { new, 'PairwrightAdded' } },
        virt_text_pos = nvim.has_inline_text and 'inline' or 'eol',
      })
    end
  else
    pointed = api.nvim_get_current_buf()
    local place = 'line ' .. (edit.row + 1)
    if edit.buf ~= pointed then
      place = vim.fn.fnamemodify(api.nvim_buf_get_name(edit.buf), ':t') .. ', ' .. place
    end
    api.nvim_buf_set_extmark(pointed, namespace, cursor_row(), 0, {
      virt_text = { { (' → %s: %s'):format(place, new), 'PairwrightNote' } },
      virt_text_pos = 'eol',
    })
  end
end

--- Reads the first edit of an answer; nil when it is for a text that is not open here.
---@param result table?
---@param encoding string
---@return pairwright.NextEdit?
local function read(result, encoding)
  local edit = result and result.edits and result.edits[1]
  local buf = edit and vim.fn.bufnr(vim.uri_to_fname(edit.textDocument.uri)) or -1
  if buf < 0 or not api.nvim_buf_is_loaded(buf) then
    return nil
  end
  local from, to = edit.range.start, edit.range['end']
  local first = api.nvim_buf_get_lines(buf, from.line, from.line + 1, false)[1]
  local last = api.nvim_buf_get_lines(buf, to.line, to.line + 1, false)[1]
  local text, end_row = edit.text, to.line
  if first and not last and to.character == 0 and to.line > from.line then
    -- Up to the end of the last line, which has no row after it here.
    end_row = to.line - 1
    last = api.nvim_buf_get_lines(buf, end_row, end_row + 1, false)[1]
    to = { line = end_row, character = nvim.character(last, #last, encoding) }
    text = text:gsub('\r?\n$', '')
  end
  if not first or not last then
    return nil
  end
  return {
    buf = buf,
    tick = api.nvim_buf_get_changedtick(buf),
    row = from.line,
    first = nvim.byte_column(first, from.character, encoding),
    end_row = end_row,
    last = nvim.byte_column(last, to.character, encoding),
    text = text,
    command = edit.command,
  }
end

---@param buf integer
local function is_wanted(buf)
  return config.get().next_edit
    and buf == api.nvim_get_current_buf()
    and vim.bo[buf].modifiable
    and vim.b[buf].pairwright_enabled ~= false
    and config.get().filetypes[vim.bo[buf].filetype] ~= false
end

--- Asks what follows from the last change; `done` gets whether something does.
---@param done? fun(found: boolean)
local function ask(done)
  local buf = api.nvim_get_current_buf()
  local client = require('pairwright.client').of(buf)
  if not client or not is_wanted(buf) then
    return
  end
  local encoding = client.offset_encoding or 'utf-16'
  local at = api.nvim_win_get_cursor(0)
  local line = api.nvim_get_current_line()
  local tick = api.nvim_buf_get_changedtick(buf)
  local question = { client = client }
  local params = {
    textDocument = { uri = vim.uri_from_bufnr(buf) },
    position = { line = at[1] - 1, character = nvim.character(line, at[2], encoding) },
  }
  question.id = nvim.request(client, 'textDocument/copilotInlineEdit', params, function(err, result)
    if asking ~= question then
      return
    end
    asking = nil
    local is_stale = api.nvim_get_current_buf() ~= buf or api.nvim_buf_get_changedtick(buf) ~= tick
    hide()
    shown = not err and not is_stale and read(nvim.without_null(result), encoding) or nil
    if shown then
      draw(shown)
    end
    if done then
      done(shown ~= nil)
    end
  end, buf)
  asking = question
end

--- A text changed: what was proposed may be wrong now.
local function changed()
  timer:stop()
  asking = nil
  hide()
  timer:start(PAUSE, 0, vim.schedule_wrap(function()
    ask()
  end))
end

--- The cursor went elsewhere: what was out of sight may be in sight, and the other way round.
local function moved()
  local edit = shown
  if edit and (pointed or not is_in_sight(edit)) then
    hide()
    shown = edit
    draw(edit)
  end
end

--- Follows the changes of a buffer.
---@param buf integer
function M.attach(buf)
  if not config.get().next_edit then
    return
  end
  require('pairwright.keys').attach_next_edit()
  api.nvim_clear_autocmds({ group = group, buffer = buf })
  api.nvim_create_autocmd({ 'TextChanged', 'TextChangedI' }, {
    group = group,
    buffer = buf,
    callback = changed,
  })
  api.nvim_create_autocmd({ 'CursorMoved', 'BufEnter' }, {
    group = group,
    buffer = buf,
    callback = moved,
  })
end

--- Goes to the line of the proposal.
---@param edit pairwright.NextEdit
local function go_to(edit)
  hide()
  vim.cmd("normal! m'")
  if edit.buf ~= api.nvim_get_current_buf() then
    api.nvim_set_current_buf(edit.buf)
  end
  api.nvim_win_set_cursor(0, { edit.row + 1, edit.first })
  shown = edit
  draw(edit)
end

---@param edit pairwright.NextEdit
local function make(edit)
  hide()
  local lines = vim.split(edit.text, '\r?\n')
  api.nvim_buf_set_text(edit.buf, edit.row, edit.first, edit.end_row, edit.last, lines)
  local is_one_line = #lines == 1
  local column = (is_one_line and edit.first or 0) + #lines[#lines]
  api.nvim_win_set_cursor(0, { edit.row + #lines, math.max(column - 1, 0) })
  require('pairwright.client').execute(edit.buf, edit.command.command, edit.command.arguments, function()
    -- The change raises no event while a mapping runs in insert mode.
    timer:stop()
    ask()
  end)
end

--- Makes the proposal when the cursor is on its line, and goes there otherwise.
---@return boolean whether there was one
function M.follow()
  local edit = shown
  if not edit then
    ask(function(found)
      if not found then
        nvim.say('nothing follows from the last change')
      end
    end)
    return false
  end
  if not api.nvim_buf_is_valid(edit.buf) or api.nvim_buf_get_changedtick(edit.buf) ~= edit.tick then
    hide()
    return false
  end
  if edit.buf == api.nvim_get_current_buf() and edit.row == cursor_row() then
    make(edit)
  else
    go_to(edit)
  end
  return true
end

--- Takes the proposal away; the same change is not proposed again.
---@return boolean
function M.dismiss()
  local edit = shown
  if not edit then
    return false
  end
  hide()
  local id = edit.command.arguments[1]
  require('pairwright.client').execute(edit.buf, 'pairwright.didRejectEdit', { id }, function() end)
  return true
end

return M
