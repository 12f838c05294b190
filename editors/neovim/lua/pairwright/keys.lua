--- Default keys in insert mode. A key that somebody has mapped stays theirs.
local config = require('pairwright.config')
local nvim = require('pairwright.nvim')

local M = {}

local plugs = {
  accept = 'accept',
  accept_word = 'accept-word',
  accept_line = 'accept-line',
  next = 'next',
  previous = 'previous',
  dismiss = 'dismiss',
  suggest = 'suggest',
}
--- What works without ghost text on screen.
local always = { next = true, previous = true, suggest = true }

local mapped = false

--- Whether a mapping is the user's: Neovim itself maps <Tab> to jump in snippets.
---@param key string
---@return boolean
function M.is_taken(key)
  local map = vim.fn.maparg(key, 'i', false, true)
  if vim.tbl_isempty(map) then
    return false
  end
  local description = map.desc or ''
  return not vim.startswith(description, 'vim.snippet.jump')
    and not vim.startswith(description, 'Pairwright')
end

--- What a key does right now: its action, or what it does without us.
---@param name string
---@param key string
---@return string
local function meaning(name, key)
  if name == 'accept' and nvim.in_snippet() then
    return '<Cmd>lua vim.snippet.jump(1)<CR>'
  end
  if not always[name] then
    if vim.fn.pumvisible() == 1 then
      return key
    end
    if config.get().ghost == 'native' then
      return name == 'accept' and vim.lsp.inline_completion.get() and '' or key
    end
    if not require('pairwright').is_visible() then
      return key
    end
  end
  return '<Plug>(pairwright-' .. plugs[name] .. ')'
end

--- Maps the keys of the settings, once, where they are free.
function M.attach()
  local keymaps = config.get().keymaps
  if mapped or not keymaps or config.get().ghost == 'off' then
    return
  end
  mapped = true
  for name, plug in pairs(plugs) do
    local key = keymaps[name]
    if key and not M.is_taken(key) then
      vim.keymap.set('i', key, function()
        return meaning(name, key)
      end, {
        expr = true,
        -- For <Plug>; a key that is answered with itself is not looked up again.
        remap = true,
        silent = true,
        desc = 'Pairwright: ' .. plug:gsub('-', ' '),
      })
    end
  end
end

return M
