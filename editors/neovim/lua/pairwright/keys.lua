--- Default keys: in insert mode for ghost text, in normal mode for hunks, and those of chats and
--- tasks in their buffers. A key that somebody has mapped stays theirs, except in buffers of ours;
--- those of hunks are mapped only where and while hunks wait.
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

--- In normal mode.
local review = {
  next_hunk = 'next-hunk',
  previous_hunk = 'previous-hunk',
  accept_hunk = 'accept-hunk',
  reject_hunk = 'reject-hunk',
  accept_all = 'accept-all',
  reject_all = 'reject-all',
}
--- Everywhere, from the first edit on.
local edits = { 'rollback', 'redo' }
--- While typing as well as in normal mode.
local next_edit = { next_edit = 'next-edit', dismiss_edit = 'dismiss-edit' }
--- In buffers of chats and tasks; from there hunks are gone to as well.
local views = {
  chat = { chat_send = 'chat-send', chat_stop = 'chat-stop', chat_review = 'chat-review' },
  task = {
    task_answer = 'task-answer',
    task_pause = 'task-pause',
    task_steer = 'task-steer',
    task_stop = 'task-stop',
    task_takeover = 'task-takeover',
  },
}
--- Those that work while typing too.
local while_typing = { chat_send = true }

local mapped = false
local mapped_edits = false
local mapped_next_edit = false
--- Keys of hunks that are mapped, by buffer.
local reviewed = {} ---@type table<integer, string[]>

--- The mode that a key of the settings is for.
---@param name string
---@return 'i'|'n'
function M.mode(name)
  return plugs[name] and 'i' or 'n'
end

--- Whether a key is for buffers of ours only, where nobody else has it.
---@param name string
---@return boolean
function M.is_of_view(name)
  return views.chat[name] ~= nil or views.task[name] ~= nil
end

--- Whether a mapping is the user's: Neovim itself maps <Tab> to jump in snippets.
---@param key string
---@param mode 'i'|'n'
---@return boolean
function M.is_taken(key, mode)
  local map = vim.fn.maparg(key, mode, false, true)
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
    if require('pairwright.menu').is_open() then
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

---@param mode 'i'|'n'
---@param key string
---@param plug string
---@param buf? integer
---@param meaning? fun(): string what the key does right now; the mapping of `plug` if not given
local function map(mode, key, plug, buf, meaning)
  vim.keymap.set(mode, key, meaning or '<Plug>(pairwright-' .. plug .. ')', {
    buffer = buf,
    expr = meaning ~= nil,
    -- For <Plug>; a key that is answered with itself is not looked up again.
    remap = true,
    silent = true,
    desc = 'Pairwright: ' .. plug:gsub('-', ' '),
  })
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
    if key and not M.is_taken(key, 'i') then
      map('i', key, plug, nil, function()
        return meaning(name, key)
      end)
    end
  end
end

--- Maps the keys of hunks in a buffer, or takes them away again.
---@param buf integer
---@param on boolean
function M.review(buf, on)
  local keymaps = config.get().keymaps
  if not on then
    for _, key in ipairs(reviewed[buf] or {}) do
      pcall(vim.keymap.del, 'n', key, { buffer = buf })
    end
    reviewed[buf] = nil
  elseif keymaps and not reviewed[buf] then
    reviewed[buf] = {}
    vim.api.nvim_buf_call(buf, function()
      for name, plug in pairs(review) do
        local key = keymaps[name]
        if key and not M.is_taken(key, 'n') then
          map('n', key, plug, buf)
          table.insert(reviewed[buf], key)
        end
      end
    end)
  end
end

--- Maps the keys of a chat or a task in its buffer.
---@param buf integer
---@param kind 'chat'|'task'
function M.view(buf, kind)
  local keymaps = config.get().keymaps
  if not keymaps then
    return
  end
  for name, plug in pairs(views[kind]) do
    local key = keymaps[name]
    if key then
      map('n', key, plug, buf)
      if while_typing[name] then
        map('i', key, plug, buf)
      end
    end
  end
  for _, name in ipairs({ 'next_hunk', 'previous_hunk' }) do
    if keymaps[name] then
      map('n', keymaps[name], review[name], buf)
    end
  end
end

--- Maps the keys that take an edit back and do it again, from the first edit on.
function M.attach_edits()
  local keymaps = config.get().keymaps
  if mapped_edits or not keymaps then
    return
  end
  mapped_edits = true
  for _, name in ipairs(edits) do
    local key = keymaps[name]
    if key and not M.is_taken(key, 'n') then
      map('n', key, name)
    end
  end
end

--- Maps the keys of the next edit, once, where they are free.
function M.attach_next_edit()
  local keymaps = config.get().keymaps
  if mapped_next_edit or not keymaps then
    return
  end
  mapped_next_edit = true
  for name, plug in pairs(next_edit) do
    for _, mode in ipairs({ 'n', 'i' }) do
      local key = keymaps[name]
      if key and not M.is_taken(key, mode) then
        map(mode, key, plug)
      end
    end
  end
end

return M
