--- What Neovim shows as wrong, told to a task that asks (`pairwright/diagnostics/get`).
local M = {}

--- Documents, and diagnostics of one, that are told at most.
local MOST = 200

---@param uri string
---@return integer[] the buffer of a document, if it has one
local function buffer_of(uri)
  local path = vim.uri_to_fname(uri)
  for _, buf in ipairs(vim.api.nvim_list_bufs()) do
    if vim.api.nvim_buf_get_name(buf) == path then
      return { buf }
    end
  end
  return {}
end

--- Severities count as in the protocol; so do lines. What a position is in is not asked: tasks are
--- told lines alone.
---@param found vim.Diagnostic
local function told(found)
  local at = { line = found.lnum, character = 0 }
  return {
    range = { start = at, ['end'] = at },
    severity = found.severity,
    source = found.source,
    message = found.message,
  }
end

---@param params { textDocument?: { uri: string } }
---@return { uri: string, diagnostics: table[] }[]
function M.get(params)
  local wanted = params.textDocument
  local answer = {}
  for _, buf in ipairs(wanted and buffer_of(wanted.uri) or vim.api.nvim_list_bufs()) do
    local diagnostics = vim.list_slice(vim.tbl_map(told, vim.diagnostic.get(buf)), 1, MOST)
    if #diagnostics > 0 and #answer < MOST then
      table.insert(answer, { uri = vim.uri_from_bufnr(buf), diagnostics = diagnostics })
    end
  end
  return answer
end

return M
