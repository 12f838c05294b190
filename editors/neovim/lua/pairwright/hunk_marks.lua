--- Hunks on screen: the lines that give way are marked, those that would come stand below them.
--- The marks move with the text, so they are also where a hunk is until the server is asked again.
local M = {}

local api = vim.api
local namespace = api.nvim_create_namespace('pairwright.hunks')

--- Lines of one hunk that are drawn at most; the rest is a number.
local MOST = 200

---@class pairwright.Hunk
---@field id string
---@field proposal string
---@field author string
---@field kind 'lines'|'create'|'delete'|'move'|'mode'
---@field state 'pending'|'accepted'|'rejected'
---@field range { start: table, end: table } Whole lines.
---@field isEdited boolean
---@field old string
---@field new string

---@class pairwright.Mark
---@field mark integer Extmark of its first line; spans it.
---@field hunk pairwright.Hunk

---@param text string
---@return string[]
local function lines_of(text)
  local lines = vim.split(text, '\n', { plain = true })
  if lines[#lines] == '' then
    table.remove(lines)
  end
  return lines
end

---@param hunk pairwright.Hunk
---@param tabstop integer
---@return table[] chunks, as `virt_lines` wants them
local function drawn(hunk, tabstop)
  local chunks = {}
  local lines = lines_of(hunk.new)
  for i = 1, math.min(#lines, MOST) do
    local line = lines[i]:gsub('\t', (' '):rep(tabstop)):gsub('\r', '')
    -- An empty chunk would not be highlighted.
    chunks[i] = { { line == '' and ' ' or line, 'PairwrightAdded' } }
  end
  if #lines > MOST then
    table.insert(chunks, { { ('… %d more lines'):format(#lines - MOST), 'PairwrightNote' } })
  end
  return chunks
end

---@param hunk pairwright.Hunk
---@return string
local function note(hunk)
  local what = { create = 'new file', delete = 'deletes the file', move = 'moves the file', mode = 'changes the file mode' }
  local parts = { hunk.author }
  table.insert(parts, what[hunk.kind])
  if hunk.isEdited then
    table.insert(parts, 'edited since')
  end
  return table.concat(parts, ', ')
end

--- Lines above the first one are not shown by themselves.
---@param buf integer
---@param count integer
local function uncover_top(buf, count)
  for _, window in ipairs(vim.fn.win_findbuf(buf)) do
    api.nvim_win_call(window, function()
      if vim.fn.line('w0') == 1 then
        vim.fn.winrestview({ topline = 1, topfill = count })
      end
    end)
  end
end

--- Draws hunks in place of those drawn before.
---@param buf integer
---@param hunks pairwright.Hunk[] in the order of their lines
---@return pairwright.Mark[]
function M.show(buf, hunks)
  M.clear(buf)
  local n_lines = api.nvim_buf_line_count(buf)
  local marks = {}
  for i, hunk in ipairs(hunks) do
    local first = math.min(hunk.range.start.line, n_lines)
    local last = math.min(hunk.range['end'].line, n_lines) - 1
    for row = first, math.min(last, first + MOST) do
      api.nvim_buf_set_extmark(buf, namespace, row, 0, {
        end_row = row + 1,
        end_col = 0,
        hl_group = 'PairwrightRemoved',
        hl_eol = true,
        -- The row after the last one is not there.
        strict = false,
      })
    end
    local is_insertion = last < first
    local row = is_insertion and math.max(first - 1, 0) or first
    local below = drawn(hunk, vim.bo[buf].tabstop)
    local is_above = is_insertion and first == 0
    marks[i] = {
      hunk = hunk,
      mark = api.nvim_buf_set_extmark(buf, namespace, row, 0, {
        end_row = math.max(last, row),
        end_col = 0,
        virt_text = { { note(hunk), 'PairwrightNote' } },
        virt_text_pos = 'eol',
      }),
    }
    if #below > 0 then
      api.nvim_buf_set_extmark(buf, namespace, math.max(last, row), 0, {
        virt_lines = below,
        virt_lines_above = is_above,
      })
      if is_above then
        uncover_top(buf, #below)
      end
    end
  end
  return marks
end

--- The rows that a hunk covers now, from 0, both included; of one that only adds lines, the row
--- they follow.
---@param buf integer
---@param mark pairwright.Mark
---@return integer, integer
function M.rows(buf, mark)
  local found = api.nvim_buf_get_extmark_by_id(buf, namespace, mark.mark, { details = true })
  local first = found[1] or 0
  return first, found[3] and found[3].end_row or first
end

---@param buf integer
function M.clear(buf)
  if api.nvim_buf_is_valid(buf) then
    api.nvim_buf_clear_namespace(buf, namespace, 0, -1)
  end
end

return M
