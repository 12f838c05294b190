--- Completion menus: Neovim's own, and those that blink.cmp and nvim-cmp draw in windows of their own.
---
--- Holds: nothing is loaded for this; a plugin that comes later is heard from then on. Whether a menu
--- is open is what the plugin told last: asking nvim-cmp may wait for its work, a second long.
--- Not here: what follows from an open menu (`ghost.lua`, `keys.lua`).
local M = {}

local api = vim.api

--- Plugins whose menus are open.
local open = {} ---@type table<string, boolean>
local is_followed = false
local hears_cmp = false

---@return boolean
function M.is_open()
  return vim.fn.pumvisible() == 1 or next(open) ~= nil
end

--- Calls `changed` whenever the menu of a plugin opened or closed.
---@param changed fun()
function M.follow(changed)
  if is_followed then
    return
  end
  is_followed = true
  local function tell(plugin, is_open)
    open[plugin] = is_open or nil
    changed()
  end
  --- Has nvim-cmp tell, once, if it is there.
  local function hear_cmp()
    local cmp = package.loaded.cmp
    if hears_cmp or type(cmp) ~= 'table' or not cmp.event then
      return
    end
    hears_cmp = true
    cmp.event:on('menu_opened', function()
      tell('cmp', true)
    end)
    cmp.event:on('menu_closed', function()
      tell('cmp', false)
    end)
  end
  local group = api.nvim_create_augroup('pairwright.menu', {})
  api.nvim_create_autocmd('User', {
    group = group,
    pattern = { 'BlinkCmpMenuOpen', 'BlinkCmpMenuClose' },
    callback = function(event)
      tell('blink', event.match == 'BlinkCmpMenuOpen')
    end,
  })
  -- Plugins are loaded no later than the first key of insert mode, as a rule.
  api.nvim_create_autocmd({ 'InsertEnter', 'TextChangedI' }, { group = group, callback = hear_cmp })
  -- No menu outlives insert mode, whatever its plugin told.
  api.nvim_create_autocmd('InsertLeave', {
    group = group,
    callback = function()
      open = {}
    end,
  })
  hear_cmp()
end

return M
