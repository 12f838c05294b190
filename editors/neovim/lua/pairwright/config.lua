--- The plugin's own settings: `vim.g.pairwright`, or `require('pairwright').setup()`. The server's
--- settings are passed on as they are, in `settings`; their types are in `settings.lua`.
local nvim = require('pairwright.nvim')

local M = {}

---@class pairwright.Keymaps
---@field accept string|false
---@field accept_word string|false
---@field accept_line string|false
---@field next string|false
---@field previous string|false
---@field dismiss string|false
---@field suggest string|false
---@field next_hunk string|false
---@field previous_hunk string|false
---@field accept_hunk string|false
---@field reject_hunk string|false
---@field accept_all string|false
---@field reject_all string|false
---@field rollback string|false
---@field redo string|false
---@field next_edit string|false
---@field dismiss_edit string|false
---@field chat_send string|false
---@field chat_stop string|false
---@field chat_review string|false
---@field task_answer string|false
---@field task_pause string|false
---@field task_steer string|false
---@field task_stop string|false
---@field task_takeover string|false

---@class pairwright.Config
---@field enabled boolean Start with every file.
---@field cmd string[] How the server is started.
---@field root_markers string[] A folder that holds one of these is a workspace.
---@field ghost 'plugin'|'native'|'off' Who draws: this plugin, Neovim 0.12 itself, or nobody.
---@field keymaps pairwright.Keymaps|false Keys, of those that nobody else has mapped.
---@field filetypes table<string, boolean> Switches ghost text per file type; not named is on.
---@field next_edit boolean Proposes the edit that follows from the last one.
---@field hide_with_menu boolean No ghost text while a completion menu is open.
---@field settings pairwright.Settings Settings of the server.

---@type pairwright.Config
M.defaults = {
  enabled = true,
  cmd = { 'pairwright', 'lsp' },
  root_markers = { '.pairwright.toml', '.git', '.hg', '.jj' },
  ghost = 'plugin',
  keymaps = {
    accept = '<Tab>',
    accept_word = '<M-Right>',
    accept_line = '<M-C-Right>',
    next = '<M-]>',
    previous = '<M-[>',
    dismiss = '<C-]>',
    suggest = '<M-\\>',
    next_hunk = ']h',
    previous_hunk = '[h',
    accept_hunk = '<M-y>',
    reject_hunk = '<M-n>',
    accept_all = '<M-Y>',
    reject_all = '<M-N>',
    rollback = '<M-u>',
    redo = '<M-r>',
    next_edit = '<M-e>',
    dismiss_edit = '<M-E>',
    chat_send = '<C-s>',
    chat_stop = '<C-c>',
    chat_review = '<M-h>',
    task_answer = '<CR>',
    task_pause = 'p',
    task_steer = 's',
    task_stop = 'x',
    task_takeover = 't',
  },
  filetypes = {},
  next_edit = true,
  hide_with_menu = true,
  settings = {},
}

--- Tables that are the user's to fill.
local free = { filetypes = true, settings = true }
--- What may be switched off by `false` though it is no boolean.
local optional = { keymaps = true }
for name in pairs(M.defaults.keymaps) do
  optional['keymaps.' .. name] = true
end

--- Takes over what is right in `given`, and says what is not.
---@param given table
---@param known table
---@param path string
---@param problems string[]
---@return table
local function checked(given, known, path, problems)
  local right = {}
  for key, value in pairs(given) do
    local name = path .. tostring(key)
    local expected = type(known[key])
    if expected == 'nil' then
      local names = vim.tbl_keys(known)
      table.sort(names)
      local there = table.concat(names, ', ')
      table.insert(problems, ('`%s` is not a setting; there are: %s'):format(name, there))
    elseif value == false and optional[name] then
      right[key] = false
    elseif type(value) ~= expected then
      local message = '`%s` should be a %s, not a %s'
      table.insert(problems, message:format(name, expected, type(value)))
    elseif name == 'ghost' and not vim.tbl_contains({ 'plugin', 'native', 'off' }, value) then
      table.insert(problems, '`ghost` should be "plugin", "native" or "off"')
    elseif expected == 'table' and not free[name] and not nvim.is_list(known[key]) then
      right[key] = checked(value, known[key], name .. '.', problems)
    else
      right[key] = value
    end
  end
  return right
end

local from_setup = {}
local merged ---@type pairwright.Config?

---@param given table
function M.set(given)
  from_setup = given
  merged = nil
end

--- The settings in force, and what is wrong with those given; a wrong one is at its default.
---@return pairwright.Config, string[]
function M.read()
  local problems = {}
  local given = vim.tbl_deep_extend('force', {}, vim.g.pairwright or {}, from_setup)
  local right = checked(given, M.defaults, '', problems)
  local config = vim.tbl_deep_extend('force', {}, M.defaults, right)
  -- Lists are replaced, not merged item by item.
  config.cmd = right.cmd or M.defaults.cmd
  config.root_markers = right.root_markers or M.defaults.root_markers
  return config, problems
end

--- The settings in force. What is wrong in them is said once.
---@return pairwright.Config
function M.get()
  if not merged then
    local problems
    merged, problems = M.read()
    if #problems > 0 then
      local message = #problems == 1 and 'Pairwright: ' .. problems[1]
        or ('Pairwright: %d problems in its settings; see :checkhealth pairwright'):format(#problems)
      vim.schedule(function()
        vim.notify(message, vim.log.levels.WARN)
      end)
    end
  end
  return merged
end

return M
