--- Text on screen that is not in the buffer.
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api
local namespace = api.nvim_create_namespace('pairwright.ghost')
local HIGHLIGHT = 'PairwrightGhost'

--- Writes tabs as the spaces they look like, for text that begins at screen column `column`.
---@param text string
---@param column integer
---@param tabstop integer
---@return string
local function expand_tabs(text, column, tabstop)
  if not text:find('\t', 1, true) then
    return text
  end
  local out = {}
  for before, tab in text:gmatch('([^\t]*)(\t?)') do
    table.insert(out, before)
    column = column + vim.fn.strdisplaywidth(before, column)
    if tab ~= '' then
      local width = tabstop - column % tabstop
      table.insert(out, (' '):rep(width))
      column = column + width
    end
  end
  return table.concat(out)
end

--- What of the first line is to be seen between the cursor and the text behind it, of which the
--- first `replaced` bytes are repeated at the end of `text`.
---@param text string
---@param after string
---@param replaced integer
---@return string
local function without_repeated(text, after, replaced)
  local repeated = after:sub(1, replaced)
  if replaced > 0 and text:sub(-replaced) == repeated then
    return text:sub(1, -replaced - 1)
  end
  return text
end

--- Shows `text` behind `column` of `row`: its first line there, the others below.
---@param buf integer
---@param row integer
---@param column integer
---@param line string
---@param text string
---@param replaced integer
function M.show(buf, row, column, line, text, replaced)
  local after = line:sub(column + 1)
  local lines = vim.split(text, '\n', { plain = true })
  if #lines == 1 then
    lines[1] = without_repeated(lines[1], after, replaced)
  end
  local tabstop = vim.bo[buf].tabstop
  local width = vim.fn.strdisplaywidth(line:sub(1, column))
  local first = expand_tabs(lines[1], width, tabstop)
  local below = {}
  for i = 2, #lines do
    below[i - 1] = { { expand_tabs(lines[i], 0, tabstop), HIGHLIGHT } }
  end
  local position = nvim.has_inline_text and 'inline' or (after == '' and 'overlay' or 'eol')
  api.nvim_buf_set_extmark(buf, namespace, row, column, {
    id = 1,
    virt_text = { { first, HIGHLIGHT } },
    virt_text_pos = position,
    virt_lines = #below > 0 and below or nil,
    hl_mode = 'combine',
    -- Typed text goes before it.
    right_gravity = true,
  })
end

---@param buf integer
function M.clear(buf)
  if api.nvim_buf_is_valid(buf) then
    api.nvim_buf_clear_namespace(buf, namespace, 0, -1)
  end
end

return M
