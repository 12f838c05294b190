--- Text of others, made fit for one line of a message or a list.
local M = {}

--- Bytes of characters that are not seen, or that turn others round, by their first two.
local hidden = {
  '\194[\128-\159]',
  '\226\128[\139-\143\170-\174]',
  '\226\129[\166-\169]',
}

--- Puts a mark in place of each character that would be obeyed or could not be seen.
---@param text string
---@return string
function M.visible(text)
  text = text:gsub('%c', '\239\191\189')
  for _, pattern in ipairs(hidden) do
    text = text:gsub(pattern, '\239\191\189')
  end
  return text
end

--- The text on one line, and how many characters of it were left out.
---@param text string
---@param most integer characters
---@return string, integer
function M.one_line(text, most)
  local line = vim.trim((text:gsub('%s+', ' ')))
  line = M.visible(line)
  local length = vim.fn.strchars(line)
  if length <= most then
    return line, 0
  end
  return vim.fn.strcharpart(line, 0, most) .. '…', length - most
end

--- Lines as a buffer takes them.
---@param text string
---@return string[]
function M.lines(text)
  return vim.split((text:gsub('\r\n?', '\n')), '\n', { plain = true })
end

return M
