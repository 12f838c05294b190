--- Fenced blocks of code in Markdown, found line by line.
local M = {}

---@class pairwright.Fence
---@field first integer Row of the opening fence, from 0.
---@field last? integer Row of the closing fence; nil where there is none.
---@field mark string What closes it.

---@param line string
---@return string? mark, string? info
local function opens(line)
  local mark, info = line:match('^ ? ? ?(```+)([^`]*)$')
  if not mark then
    mark, info = line:match('^ ? ? ?(~~~+)(.*)$')
  end
  return mark, info
end

---@param line string
---@param mark string
---@return boolean
local function closes(line, mark)
  local found = line:match('^ ? ? ?([`~]+)%s*$')
  return found ~= nil and #found >= #mark and found == mark:sub(1, 1):rep(#found)
end

--- The fences of lines of which the first has row `first`.
---@param lines string[]
---@param first integer
---@return pairwright.Fence[]
function M.all(lines, first)
  local fences = {}
  local open ---@type pairwright.Fence?
  for i, line in ipairs(lines) do
    local row = first + i - 1
    if open then
      if closes(line, open.mark) then
        open.last = row
        open = nil
      end
    else
      local mark = opens(line)
      if mark then
        open = { first = row, mark = mark }
        table.insert(fences, open)
      end
    end
  end
  return fences
end

return M
