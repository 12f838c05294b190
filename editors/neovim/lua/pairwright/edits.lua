--- The edits there were, in a list: the one that is chosen is taken back, or done again.
---
--- Not here: hunks that wait for a decision (`hunks.lua`).
local client = require('pairwright.client')
local nvim = require('pairwright.nvim')
local plain = require('pairwright.plain')

local M = {}

--- Characters of the names of files in a line.
local PATHS = 60

---@class pairwright.Edit
---@field at integer
---@field author string
---@field paths string[]
---@field standing 'applied'|'rejected'|'taken_back'|'expired'|'failed'
---@field rollbackToken? string

local words = {
  applied = 'applied',
  rejected = 'rejected',
  taken_back = 'taken back',
  expired = 'too old to take back',
  failed = 'not done',
}

---@param edit pairwright.Edit
---@return string
local function in_words(edit)
  local day = os.date('%Y-%m-%d %H:%M', math.floor(edit.at / 1000))
  local paths = plain.one_line(table.concat(edit.paths, ', '), PATHS)
  return ('%s  %s  %s  (%s)'):format(day, words[edit.standing], paths, plain.visible(edit.author))
end

--- Does the edit again that was taken back last: the oldest of those that came after all that stand.
---@param buf integer
function M.redo(buf)
  client.execute(buf, 'pairwright.diff.history', {}, function(result)
    local token ---@type string?
    for _, edit in ipairs(result.edits) do
      if edit.standing == 'applied' then
        break
      end
      token = edit.standing == 'taken_back' and edit.rollbackToken or token
    end
    if not token then
      return nvim.say('no edit was taken back since the last one; see :Pairwright edits')
    end
    require('pairwright.hunks').roll_back(token, true)
  end)
end

--- Lets the user choose an edit of the folder of a buffer.
---@param buf integer
function M.choose(buf)
  client.execute(buf, 'pairwright.diff.history', {}, function(result)
    if #result.edits == 0 then
      return nvim.say('no edits were made here')
    end
    vim.ui.select(result.edits, {
      prompt = 'Edits: take one back, or do it again',
      kind = 'pairwright_edit',
      format_item = in_words,
    }, function(edit)
      if edit and edit.rollbackToken then
        require('pairwright.hunks').roll_back(edit.rollbackToken, edit.standing == 'taken_back')
      elseif edit then
        nvim.say('that edit is ' .. words[edit.standing])
      end
    end)
  end)
end

return M
