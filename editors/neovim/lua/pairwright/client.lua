--- The server's process: started for files, told settings, asked to run commands.
local config = require('pairwright.config')
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api
local NAME = 'pairwright'

local attached = {} ---@type table<integer, integer> buffer to client
local ended = {} ---@type table<integer, boolean> clients that are no more

--- The running client of `buf`.
---@param buf integer
---@return vim.lsp.Client?
function M.of(buf)
  local id = attached[buf]
  local client = id and vim.lsp.get_client_by_id(id)
  if not client or ended[id] or nvim.is_stopped(client) then
    return nil
  end
  return client
end

---@param client vim.lsp.Client
---@param buf integer
local function on_attach(client, buf)
  attached[buf] = client.id
  require('pairwright.ghost').attach(client, buf)
  require('pairwright.hunks').attach(client.id, buf)
end

--- The buffers that a client serves.
---@param client_id integer
---@return integer[]
function M.buffers(client_id)
  return vim.tbl_filter(function(buf)
    return attached[buf] == client_id and api.nvim_buf_is_loaded(buf)
  end, vim.tbl_keys(attached))
end

--- Buffers to serve again as soon as no server runs any more, after |restart()|.
local waiting ---@type integer[]?
--- Times of the latest unexpected ends, in seconds.
local crashes = {} ---@type number[]
local stopping = false

---@param buffers integer[]
local function attach_all(buffers)
  for _, buf in ipairs(buffers) do
    if api.nvim_buf_is_valid(buf) then
      M.attach(buf, true)
    end
  end
end

--- Whether a server that ended by itself is to be started again: thrice in three minutes.
local function is_worth_another_try()
  local now = nvim.uv.now() / 1000
  crashes = vim.tbl_filter(function(at)
    return now - at < 180
  end, crashes)
  table.insert(crashes, now)
  return #crashes <= 3
end

---@param code integer
---@param signal integer
---@param client_id integer
local function on_exit(code, signal, client_id)
  ended[client_id] = true
  vim.schedule(function()
    require('pairwright.status').forget(client_id)
    local left = {}
    for buf, id in pairs(attached) do
      if id == client_id then
        attached[buf] = nil
        require('pairwright.ghost').detach(buf)
        require('pairwright.hunks').detach(client_id, buf)
        table.insert(left, buf)
      end
    end
    if waiting then
      local others = vim.tbl_filter(function(client)
        return not ended[client.id]
      end, nvim.clients(NAME))
      if #others == 0 then
        local buffers = waiting
        waiting = nil
        attach_all(buffers)
      end
    elseif not stopping and (code ~= 0 or signal ~= 0) and vim.v.exiting == vim.NIL then
      -- Neovim itself tells that it ended.
      if is_worth_another_try() then
        attach_all(left)
      else
        local message = 'Pairwright: the server ended again (code %d); see :Pairwright log'
        vim.notify(message:format(code), vim.log.levels.ERROR)
      end
    end
  end)
end

--- Settings as they are sent: an empty table is an object, not a list.
---@param settings pairwright.Settings
---@return table
local function object(settings)
  return vim.tbl_isempty(settings) and vim.empty_dict() or settings
end

--- What `vim.lsp.config` and `vim.lsp.start` want to know.
---@return table
function M.lsp_config()
  local settings = config.get()
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  -- The plugin speaks it, also where Neovim does not; without it the server would offer the same
  -- text in the completion menu.
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  capabilities.experimental = { pairwright = { status = true, hunks = true } }
  return {
    name = NAME,
    cmd = settings.cmd,
    root_markers = settings.root_markers,
    capabilities = capabilities,
    init_options = object(settings.settings),
    settings = { pairwright = object(settings.settings) },
    handlers = {
      ['didChangeStatus'] = function(_, status, context)
        require('pairwright.status').set(context.client_id, status)
      end,
      ['pairwright/diff/changed'] = function(_, _, context)
        require('pairwright.keys').attach_rollback()
        require('pairwright.hunks').refresh(context.client_id)
      end,
    },
    on_attach = on_attach,
    on_exit = on_exit,
  }
end

--- Says once what to do when the server cannot be started.
---@param program string
local function say_missing(program)
  local message = 'Pairwright: there is no program `%s`; see :checkhealth pairwright'
  vim.notify_once(message:format(program), vim.log.levels.WARN)
end

--- Starts the server for `buf`, when it holds a file and nothing says otherwise.
---@param buf integer
---@param by_hand? boolean
function M.attach(buf, by_hand)
  local settings = config.get()
  local wanted = settings.enabled or by_hand
  if not wanted or not api.nvim_buf_is_loaded(buf) or vim.bo[buf].buftype ~= '' then
    return
  end
  if M.of(buf) then
    return
  end
  stopping = false
  if vim.fn.executable(settings.cmd[1]) ~= 1 then
    return say_missing(settings.cmd[1])
  end
  -- Users of `vim.lsp.config` change the configuration there.
  local start = vim.lsp.config and vim.deepcopy(vim.lsp.config[NAME]) or M.lsp_config()
  start.root_dir = nvim.root(buf, settings.root_markers)
  nvim.start(start, buf, ended)
end

--- Stops every server, and starts it again for the buffers it served. Called again while servers
--- are still ending, it does not wait for them.
function M.restart()
  local force = waiting ~= nil
  waiting = waiting or vim.tbl_keys(attached)
  local running = nvim.clients(NAME)
  for _, client in ipairs(running) do
    nvim.stop(client, force)
  end
  if #running == 0 then
    local buffers = vim.tbl_isempty(waiting) and { api.nvim_get_current_buf() } or waiting
    waiting = nil
    attach_all(buffers)
  end
end

function M.stop()
  stopping = true
  for _, client in ipairs(nvim.clients(NAME)) do
    nvim.stop(client)
  end
end

--- Runs a command of the server.
---@param buf integer
---@param command string
---@param arguments? any[]
---@param done? fun(result: any)
function M.execute(buf, command, arguments, done)
  local client = M.of(buf)
  if not client then
    return vim.notify('Pairwright: no server is attached to this buffer', vim.log.levels.WARN)
  end
  local params = { command = command, arguments = arguments or {} }
  nvim.request(client, 'workspace/executeCommand', params, function(err, result)
    if err then
      vim.notify('Pairwright: ' .. (err.message or vim.inspect(err)), vim.log.levels.ERROR)
    elseif done then
      done(result)
    end
  end, buf)
end

--- Changes settings of every server that runs, from now on.
---@param change fun(settings: pairwright.Settings)
function M.change_settings(change)
  local settings = config.get().settings
  change(settings)
  for _, client in ipairs(nvim.clients(NAME)) do
    client.config.settings = { pairwright = object(settings) }
    -- Answers to `workspace/configuration` are taken from here since 0.10.
    client.settings = client.config.settings
    nvim.notify(client, 'workspace/didChangeConfiguration', { settings = client.config.settings })
  end
end

return M
