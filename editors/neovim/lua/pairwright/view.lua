--- Buffers that show a chat or a task: how they are made, shown and changed.
---
--- Holds: `b:pairwright_root` of such a buffer is the folder it belongs to. What is shown in one
--- comes from others: it is neither read for modelines nor kept in a swap file.
local M = {}

local api = vim.api

---@param name string
---@param filetype string
---@param root string
---@return integer buffer
function M.create(name, filetype, root)
  local buf = api.nvim_create_buf(true, true)
  vim.bo[buf].buftype = 'nofile'
  vim.bo[buf].bufhidden = 'hide'
  vim.bo[buf].swapfile = false
  vim.bo[buf].modeline = false
  vim.b[buf].pairwright_root = root
  api.nvim_buf_set_name(buf, 'pairwright://' .. name)
  -- Where `gf` looks for the files that are named.
  vim.bo[buf].path = root:gsub('[\\ ,]', '\\%0')
  vim.bo[buf].filetype = filetype
  return buf
end

--- Goes to the window that shows a buffer, or opens one.
---@param buf integer
function M.show(buf)
  local window = vim.fn.bufwinid(buf)
  if window ~= -1 then
    api.nvim_set_current_win(window)
    return
  end
  vim.cmd('botright vsplit')
  api.nvim_win_set_buf(0, buf)
  -- Of this buffer in this window; a file that is opened here later has the user's.
  local options = vim.wo[0][0]
  options.wrap = true
  options.linebreak = true
  options.spell = false
  options.number = false
  options.relativenumber = false
  options.signcolumn = 'no'
end

--- Goes to a window with a file, so that a file can be opened in it.
function M.leave()
  for _, window in ipairs(api.nvim_tabpage_list_wins(0)) do
    if vim.bo[api.nvim_win_get_buf(window)].buftype == '' then
      return api.nvim_set_current_win(window)
    end
  end
  vim.cmd('topleft vnew')
end

--- Changes a buffer without a step to undo: what was streamed is not taken back by `u`.
---@param buf integer
---@param change fun()
function M.change(buf, change)
  local levels, is_modifiable = vim.bo[buf].undolevels, vim.bo[buf].modifiable
  vim.bo[buf].undolevels = -1
  vim.bo[buf].modifiable = true
  change()
  vim.bo[buf].modifiable = is_modifiable
  vim.bo[buf].undolevels = levels
end

return M
