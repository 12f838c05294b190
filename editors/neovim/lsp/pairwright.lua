-- The server for `vim.lsp.enable('pairwright')` on Neovim 0.11 and later; change it with
-- `vim.lsp.config('pairwright', { … })`.
return require('pairwright.client').lsp_config()
