-- Entry point: commands, mappings and highlights exist at once; the rest is loaded with the first
-- file. Nothing needs to be called; see |pairwright-setup|.
if vim.g.loaded_pairwright then
  return
end
vim.g.loaded_pairwright = true

vim.api.nvim_set_hl(0, 'PairwrightGhost', { default = true, link = 'Comment' })
vim.api.nvim_set_hl(0, 'PairwrightAdded', { default = true, link = 'DiffAdd' })
vim.api.nvim_set_hl(0, 'PairwrightRemoved', { default = true, link = 'DiffDelete' })
vim.api.nvim_set_hl(0, 'PairwrightNote', { default = true, link = 'Comment' })

for name, call in pairs({
  accept = 'accept()',
  ['accept-word'] = 'accept_word()',
  ['accept-line'] = 'accept_line()',
  next = 'next()',
  previous = 'previous()',
  dismiss = 'dismiss()',
  suggest = 'suggest()',
}) do
  vim.keymap.set(
    'i',
    '<Plug>(pairwright-' .. name .. ')',
    '<Cmd>lua require("pairwright").' .. call .. '<CR>',
    { silent = true, desc = 'Pairwright: ' .. name:gsub('-', ' ') }
  )
end

for _, name in ipairs({
  'next-hunk',
  'previous-hunk',
  'accept-hunk',
  'reject-hunk',
  'accept-all',
  'reject-all',
  'rollback',
  'redo',
  'next-edit',
  'dismiss-edit',
  'chat',
  'chat-send',
  'chat-stop',
  'chat-review',
  'task',
  'task-answer',
  'task-pause',
  'task-steer',
  'task-stop',
  'task-takeover',
}) do
  vim.keymap.set(
    'n',
    '<Plug>(pairwright-' .. name .. ')',
    '<Cmd>lua require("pairwright").' .. name:gsub('-', '_') .. '()<CR>',
    { silent = true, desc = 'Pairwright: ' .. name:gsub('-', ' ') }
  )
end

for _, name in ipairs({ 'next-edit', 'dismiss-edit' }) do
  vim.keymap.set(
    'i',
    '<Plug>(pairwright-' .. name .. ')',
    '<Cmd>lua require("pairwright").' .. name:gsub('-', '_') .. '()<CR>',
    { silent = true, desc = 'Pairwright: ' .. name:gsub('-', ' ') }
  )
end

vim.keymap.set(
  'i',
  '<Plug>(pairwright-chat-send)',
  '<Esc><Cmd>lua require("pairwright").chat_send()<CR>',
  { silent = true, desc = 'Pairwright: chat send' }
)
vim.keymap.set(
  'x',
  '<Plug>(pairwright-chat)',
  '<Cmd>lua require("pairwright").chat_selection()<CR>',
  { silent = true, desc = 'Pairwright: chat' }
)

vim.api.nvim_create_user_command('Pairwright', function(command)
  local range = command.range > 0 and { command.line1, command.line2 } or nil
  require('pairwright.command').run(command.args, range)
end, {
  nargs = '*',
  range = true,
  desc = 'Pairwright',
  complete = function(typed, line)
    return require('pairwright.command').complete(typed, line)
  end,
})

local group = vim.api.nvim_create_augroup('pairwright.start', {})
vim.api.nvim_create_autocmd('FileType', {
  group = group,
  desc = 'Attach Pairwright to files of any type',
  callback = function(event)
    require('pairwright.client').attach(event.buf)
  end,
})
