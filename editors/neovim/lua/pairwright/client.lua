--- The server's process: started for files, told settings, asked to run commands.
local config = require('pairwright.config')
local nvim = require('pairwright.nvim')

local M = {}

local api = vim.api
local NAME = 'pairwright'
local group = api.nvim_create_augroup('pairwright.client', {})

local attached = {} ---@type table<integer, integer> buffer to client
local ended = {} ---@type table<integer, boolean> clients that are no more

--- Clients by folder, also those that are not ready yet.
local by_root = {} ---@type table<string, integer>

---@param id? integer
---@return vim.lsp.Client?
local function running(id)
  local client = id and vim.lsp.get_client_by_id(id)
  if client and not ended[id] and not nvim.is_stopped(client) then
    return client
  end
end

--- The running client of `buf`, or of the folder of the chat or task that it shows.
---@param buf integer
---@return vim.lsp.Client?
function M.of(buf)
  local root = api.nvim_buf_is_valid(buf) and vim.b[buf].pairwright_root
  return running(root and by_root[root] or attached[buf])
end

---@param client vim.lsp.Client
---@param buf integer
local function on_attach(client, buf)
  attached[buf] = client.id
  api.nvim_clear_autocmds({ group = group, buffer = buf })
  api.nvim_create_autocmd('BufWipeout', {
    group = group,
    buffer = buf,
    callback = function()
      attached[buf] = nil
      require('pairwright.ghost').detach(buf)
    end,
  })
  require('pairwright.ghost').attach(client, buf)
  require('pairwright.next_edit').attach(buf)
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

--- Users of `vim.lsp.config` change the configuration there.
---@return table
local function start_config()
  return vim.lsp.config and vim.deepcopy(vim.lsp.config[NAME]) or M.lsp_config()
end

--- The program that is started; nil where a function starts it.
---@param start? table
---@return string?
function M.program(start)
  local cmd = (start or start_config()).cmd
  return type(cmd) == 'table' and cmd[1] or nil
end

--- Why a server cannot be started, and what to do; nil when it can.
---@param start table
---@return string?
local function missing(start)
  local program = M.program(start)
  if program and vim.fn.executable(program) ~= 1 then
    return ('there is no program `%s`; see :checkhealth pairwright'):format(program)
  end
end

--- The folder that a file belongs to, as the configuration has it.
---@param start table
---@param buf integer
---@return string?
local function root_of(start, buf)
  return type(start.root_dir) == 'string' and start.root_dir or nvim.root(buf, start.root_markers)
end

--- What waits for a server to be ready, by its client, and who is told that it never will be.
local awaited = {} ---@type table<integer, { done: fun(client: vim.lsp.Client), failed: fun(why: string) }[]>
--- Who waits for an answer of a server, by its client: Neovim tells nobody that none will come.
local asked = {} ---@type table<integer, table<table, fun(why: string)>>
local roots = {} ---@type table<integer, string> folders, by client

--- Chats and tasks, where any were looked at.
---@return table?
local function sessions()
  return package.loaded['pairwright.sessions']
end

---@param client vim.lsp.Client
local function on_init(client)
  local root = client.config.root_dir
  if root then
    roots[client.id], by_root[root] = root, client.id
    if sessions() then
      sessions().started(client)
    end
  end
  local waiting_for_it = awaited[client.id] or {}
  awaited[client.id] = nil
  for _, one in ipairs(waiting_for_it) do
    one.done(client)
  end
end

--- Tells all who wait for a server that it has ended.
---@param client_id integer
---@param how string
local function give_up(client_id, how)
  local waiting_for_it, unanswered = awaited[client_id] or {}, asked[client_id] or {}
  awaited[client_id], asked[client_id] = nil, nil
  local why = ('the server ended (%s); see :Pairwright log'):format(how)
  for _, one in ipairs(waiting_for_it) do
    one.failed(why)
  end
  for question, failed in pairs(unanswered) do
    unanswered[question] = nil
    failed(why)
  end
end

--- Starts a server for a folder without a buffer, or takes the one that runs.
---@param root string
---@return integer? client, string? why there is none
local function start_at(root)
  if not running(by_root[root]) then
    local start = start_config()
    local why = missing(start)
    if why then
      return nil, why
    end
    start.root_dir = root
    by_root[root] = nvim.start_alone(start, ended)
  end
  return by_root[root], 'the server cannot be started; see :checkhealth pairwright'
end

---@param code integer
---@param signal integer
---@param client_id integer
local function on_exit(code, signal, client_id)
  ended[client_id] = true
  vim.schedule(function()
    require('pairwright.status').forget(client_id)
    local root = roots[client_id]
    roots[client_id] = nil
    give_up(client_id, signal ~= 0 and 'signal ' .. signal or 'code ' .. code)
    if package.loaded['pairwright.approval'] then
      require('pairwright.approval').forget(client_id)
    end
    if sessions() and root then
      sessions().lost(root)
    end
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
        if sessions() and root and sessions().has_any(root) then
          start_at(root)
        end
      else
        nvim.complain(('the server ended again (code %d); see :Pairwright log'):format(code))
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
  capabilities.experimental = {
    pairwright = {
      status = true,
      hunks = true,
      events = nvim.has_sessions,
      approvals = nvim.has_sessions,
      diagnostics = nvim.has_sessions,
    },
  }
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
        require('pairwright.keys').attach_edits()
        require('pairwright.hunks').refresh(context.client_id)
      end,
      ['pairwright/event'] = function(_, event, context)
        if sessions() then
          sessions().take(context.client_id, nvim.without_null(event))
        end
      end,
      ['pairwright/approval/request'] = function(_, asked, context)
        local approval = require('pairwright.approval')
        return approval.wait(nvim.without_null(asked), context.client_id)
      end,
      ['pairwright/diagnostics/get'] = function(_, asked)
        return require('pairwright.diagnostics').get(nvim.without_null(asked))
      end,
    },
    -- Code actions that begin something show what they began.
    commands = nvim.has_sessions and {
      ['pairwright.task.start'] = function(command, context)
        require('pairwright.task').start(command.arguments[1], context.bufnr)
      end,
      ['pairwright.explainCode'] = function(command, context)
        require('pairwright.chat').explain(command.arguments[1], context.bufnr)
      end,
    } or nil,
    on_init = on_init,
    on_attach = on_attach,
    on_exit = on_exit,
  }
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
  local client = M.of(buf)
  -- A file that is read again, by `:edit`, is attached to nobody.
  if client and vim.lsp.buf_is_attached(buf, client.id) then
    return
  end
  stopping = false
  local start = start_config()
  local why = missing(start)
  if why then
    vim.notify_once('Pairwright: ' .. why, vim.log.levels.WARN)
    return
  end
  local function start_in(root)
    start.root_dir = root
    local id = nvim.start(start, buf, ended)
    if id and root then
      by_root[root] = id
    end
  end
  if type(start.root_dir) == 'function' then
    start.root_dir(buf, start_in)
  else
    start_in(root_of(start, buf))
  end
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

--- Asks a server; `done` is told what is wrong in words, and whether that is the server's end, or the
--- result.
---@param client vim.lsp.Client
---@param method string
---@param params table
---@param done fun(err?: string, result: any, is_gone?: boolean)
---@param buf? integer whose latest changes are sent first
function M.ask(client, method, params, done, buf)
  buf = buf or M.buffers(client.id)[1] or api.nvim_get_current_buf()
  local question = {}
  local unanswered = asked[client.id] or {}
  asked[client.id] = unanswered
  unanswered[question] = function(why)
    done(why, nil, true)
  end
  local id = nvim.request(client, method, params, function(err, result)
    if not unanswered[question] then
      return
    end
    unanswered[question] = nil
    if err then
      local hint = type(err.data) == 'table' and err.data.hint
      return done(hint and err.message .. ' ' .. hint or err.message or vim.inspect(err))
    end
    done(nil, nvim.without_null(result))
  end, buf)
  if not id then
    unanswered[question] = nil
    done('the server does not run', nil, true)
  end
end

--- Calls `done` with the server for the folder of `buf`, which is started where none runs; or `failed`
--- with what is wrong, which is said unless that is given.
---@param buf integer
---@param done fun(client: vim.lsp.Client)
---@param failed? fun(why: string)
function M.reach(buf, done, failed)
  failed = failed or nvim.complain
  local client = M.of(buf)
  if not client or not client.config.root_dir then
    stopping = false
    local id, why = start_at(M.folder(buf))
    client = id and vim.lsp.get_client_by_id(id)
    if not client then
      return failed(why)
    end
  end
  if client.initialized then
    return done(client)
  end
  awaited[client.id] = awaited[client.id] or {}
  table.insert(awaited[client.id], { done = done, failed = failed })
end

--- The folder that a buffer belongs to; the working directory where it belongs to none.
---@param buf integer
---@return string
function M.folder(buf)
  local root = vim.b[buf].pairwright_root
  if root then
    return root
  end
  local client = M.of(buf)
  local of_file = client and client.config.root_dir
  if not of_file and vim.bo[buf].buftype == '' then
    of_file = root_of(start_config(), buf)
  end
  return of_file or nvim.uv.cwd()
end

--- Runs a command of the server.
---@param buf integer
---@param command string
---@param arguments? any[]
---@param done? fun(result: any)
function M.execute(buf, command, arguments, done)
  local client = M.of(buf)
  if not client then
    return nvim.say('no server is attached to this buffer', vim.log.levels.WARN)
  end
  local params = { command = command, arguments = arguments or {} }
  M.ask(client, 'workspace/executeCommand', params, function(err, result, is_gone)
    if err then
      -- Neovim itself tells of a server's end; who waits for a result is told besides.
      if done or not is_gone then
        nvim.complain(err)
      end
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
