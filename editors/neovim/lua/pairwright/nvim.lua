--- What differs between versions of Neovim. Nothing else in the plugin asks for a version.
local M = {}

local api = vim.api
local has_0_11 = vim.fn.has('nvim-0.11') == 1

M.uv = vim.uv or vim.loop

M.is_list = vim.islist or vim.tbl_islist

--- Text can be shown between characters; before 0.10 it can only stand over or behind them.
M.has_inline_text = vim.fn.has('nvim-0.10') == 1

--- Chats and tasks need what 0.10 has.
M.has_sessions = vim.fn.has('nvim-0.10') == 1

--- Neovim has ghost text of its own.
M.has_native_ghost = vim.lsp.inline_completion ~= nil

--- What a server said, with nothing in place of null, which some versions keep.
---@param value any
---@return any
function M.without_null(value)
  if value == vim.NIL then
    return nil
  elseif type(value) == 'table' then
    for key, inner in pairs(value) do
      value[key] = M.without_null(inner)
    end
  end
  return value
end

---@param message string
---@param level? integer
function M.say(message, level)
  vim.notify('Pairwright: ' .. message, level or vim.log.levels.INFO)
end

--- Says what went wrong.
---@param message string
function M.complain(message)
  M.say(message, vim.log.levels.ERROR)
end

--- Asks `client`; `buf` must be a real number, or changes that wait to be sent are not sent first.
---@param client vim.lsp.Client
---@param method string
---@param params table
---@param handler fun(err: table?, result: any)
---@param buf integer
---@return integer? id of the request, for |cancel()|
function M.request(client, method, params, handler, buf)
  local sent, id
  if has_0_11 then
    sent, id = client:request(method, params, handler, buf)
  else
    sent, id = client.request(method, params, handler, buf)
  end
  return sent and id or nil
end

--- Asks and waits; nil when no answer comes within `milliseconds`, or it is an error.
---@param client vim.lsp.Client
---@param method string
---@param params table
---@param milliseconds integer
---@return any
function M.request_sync(client, method, params, milliseconds)
  local answer
  if has_0_11 then
    answer = client:request_sync(method, params, milliseconds)
  else
    answer = client.request_sync(method, params, milliseconds)
  end
  return answer and answer.result
end

---@param client vim.lsp.Client
---@param id integer
function M.cancel(client, id)
  if has_0_11 then
    client:cancel_request(id)
  else
    client.cancel_request(id)
  end
end

---@param client vim.lsp.Client
---@param method string
---@param params table
function M.notify(client, method, params)
  if has_0_11 then
    client:notify(method, params)
  else
    client.notify(method, params)
  end
end

---@param client vim.lsp.Client
---@param force? boolean
function M.stop(client, force)
  if has_0_11 then
    client:stop(force)
  else
    client.stop(force)
  end
end

---@param client vim.lsp.Client
---@return boolean
function M.is_stopped(client)
  if has_0_11 then
    return client:is_stopped()
  end
  return client.is_stopped()
end

--- Clients named `name`.
---@param name string
---@return vim.lsp.Client[]
function M.clients(name)
  local all = vim.lsp.get_clients and vim.lsp.get_clients({ name = name })
    or vim.lsp.get_active_clients()
  return vim.tbl_filter(function(client)
    return client.name == name
  end, all)
end

local started_on_0_7 = {} ---@type table<string, integer>

--- Whether a client is the one that is wanted.
---@param ended table<integer, boolean> clients that are no more, though Neovim may still list them
---@return fun(client: vim.lsp.Client, wanted: table): boolean
local function reused(ended)
  return function(client, wanted)
    return client.name == wanted.name
      and client.config.root_dir == wanted.root_dir
      and not ended[client.id]
  end
end

--- Starts a server for a folder without a buffer, or takes the one that runs there.
---@param config table
---@param ended table<integer, boolean>
---@return integer? client
function M.start_alone(config, ended)
  if has_0_11 then
    return vim.lsp.start(config, { attach = false, reuse_client = reused(ended) })
  end
  return vim.lsp.start_client(config)
end

--- Starts a server, or takes the one that runs for the same root, and attaches it to `buf`.
---@param config table
---@param buf integer
---@param ended table<integer, boolean>
---@return integer? client
function M.start(config, buf, ended)
  if vim.lsp.start then
    return vim.lsp.start(config, { bufnr = buf, reuse_client = reused(ended) })
  end
  local root = config.root_dir or ''
  local id = started_on_0_7[root]
  if not id or ended[id] then
    id = vim.lsp.start_client(config)
    started_on_0_7[root] = id
  end
  if id then
    vim.lsp.buf_attach_client(buf, id)
  end
  return id
end

--- The nearest folder at or above the file of `buf` that holds one of `markers`.
---@param buf integer
---@param markers string[]
---@return string?
function M.root(buf, markers)
  if vim.fs and vim.fs.root then
    return vim.fs.root(buf, markers)
  end
  local folder = vim.fn.fnamemodify(api.nvim_buf_get_name(buf), ':p:h')
  while true do
    for _, marker in ipairs(markers) do
      if M.uv.fs_stat(folder .. '/' .. marker) then
        return folder
      end
    end
    local parent = vim.fn.fnamemodify(folder, ':h')
    if parent == folder then
      return nil
    end
    folder = parent
  end
end

--- Bytes before position `character` of `line`; beyond its end, the whole line.
---@param line string
---@param character integer
---@param encoding string
---@return integer
function M.byte_column(line, character, encoding)
  if encoding == 'utf-8' then
    return math.min(character, #line)
  end
  if has_0_11 then
    return vim.str_byteindex(line, encoding, character, false)
  end
  local fits, column = pcall(vim.str_byteindex, line, character, encoding == 'utf-16')
  return fits and column or #line
end

--- Position of byte `column` of `line`.
---@param line string
---@param column integer
---@param encoding string
---@return integer
function M.character(line, column, encoding)
  if encoding == 'utf-8' then
    return column
  end
  local before = line:sub(1, column)
  if has_0_11 then
    return vim.str_utfindex(before, encoding)
  end
  local utf32, utf16 = vim.str_utfindex(before)
  return encoding == 'utf-16' and utf16 or utf32
end

--- Length of `text` in the units that the protocol counts accepted text in.
---@param text string
---@return integer
function M.utf16_length(text)
  return M.character(text, #text, 'utf-16')
end

--- Whether a snippet waits to be filled in, so that its keys come first.
---@return boolean
function M.in_snippet()
  return vim.snippet ~= nil and vim.snippet.active({ direction = 1 })
end

--- Reports for |:checkhealth|.
local health = vim.health or require('health')
M.health = {
  start = health.start or health.report_start,
  ok = health.ok or health.report_ok,
  info = health.info or health.report_info,
  warn = health.warn or health.report_warn,
  error = health.error or health.report_error,
}

return M
