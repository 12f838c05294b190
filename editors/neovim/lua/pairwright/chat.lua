--- Chat in a Markdown buffer: the question is written at its end, the answer streams in above.
---
--- Holds: a chat is one session of the server, followed also after the server was started again.
--- Not here: what its events do to its text (`chat_events.lua`), how that is written
--- (`chat_text.lua`); what is answered, which is the server's.
local client = require('pairwright.client')
local events = require('pairwright.chat_events')
local nvim = require('pairwright.nvim')
local page = require('pairwright.chat_text')
local plain = require('pairwright.plain')
local sessions = require('pairwright.sessions')
local view = require('pairwright.view')

local M = {}

local api = vim.api

--- Events that one request answers at most.
local PAGE = 1000

---@class pairwright.Reference
---@field type 'file'
---@field path string a uri
---@field firstLine integer
---@field lastLine integer
---@field title string

---@class pairwright.Chat: pairwright.ChatText
---@field root string
---@field session? string
---@field source? integer the buffer the user came from
---@field references pairwright.Reference[]
---@field is_busy boolean
---@field is_own boolean the next question was asked here, and is in the text already

local chats = {} ---@type table<integer, pairwright.Chat> by buffer
local latest = {} ---@type table<string, pairwright.Chat> by folder

---@param chat pairwright.Chat
---@param session string
---@param seq integer
local function follow(chat, session, seq)
  chat.session = session
  sessions.follow(session, chat.root, seq, {
    on_event = function(event)
      events.take(chat, event)
    end,
    on_lost = function()
      events.break_off(chat, 'The server ended before the answer did. Ask again.')
    end,
    on_back = function(why)
      if why then
        -- Nothing of it was kept; the next question begins another one.
        sessions.forget(session)
        chat.session = nil
      end
    end,
  })
end

---@param chat pairwright.Chat
local function note_references(chat)
  local titles = vim.tbl_map(function(reference)
    return reference.title
  end, chat.references)
  page.note(chat, chat.heading, #titles > 0 and 'with ' .. table.concat(titles, ', ') or '')
end

local n_chats = 0

---@param root string
---@return pairwright.Chat
local function create(root)
  n_chats = n_chats + 1
  local buf = view.create('chat/' .. n_chats, 'markdown', root)
  local chat = page.create(buf) --[[@as pairwright.Chat]]
  chat.root, chat.references = root, {}
  chat.is_busy, chat.is_own = false, false
  chats[buf], latest[root] = chat, chat
  require('pairwright.keys').view(buf, 'chat')
  api.nvim_create_autocmd('BufWipeout', {
    buffer = buf,
    callback = function()
      chats[buf] = nil
      if latest[root] == chat then
        latest[root] = nil
      end
      if chat.session then
        sessions.forget(chat.session)
      end
    end,
  })
  return chat
end

--- The chat of a buffer, or the latest of its folder.
---@param buf integer
---@return pairwright.Chat?
local function chat_of(buf)
  return chats[buf] or latest[client.folder(buf)]
end

---@param chat pairwright.Chat
local function show(chat)
  view.show(chat.buf)
  api.nvim_win_set_cursor(0, { api.nvim_buf_line_count(chat.buf), 0 })
end

---@param chat pairwright.Chat
---@param buf integer
---@param range? integer[]
local function look_at(chat, buf, range)
  if vim.bo[buf].buftype ~= '' or api.nvim_buf_get_name(buf) == '' then
    return
  end
  chat.source = buf
  if range then
    local name = vim.fn.fnamemodify(api.nvim_buf_get_name(buf), ':t')
    table.insert(chat.references, {
      type = 'file',
      path = vim.uri_from_bufnr(buf),
      firstLine = range[1],
      lastLine = range[2],
      title = ('%s:%d-%d'):format(name, range[1], range[2]),
    })
    note_references(chat)
  end
end

---@param chat pairwright.Chat
---@param text string
local function ask(chat, text)
  local references = chat.references
  chat.references = {}
  local source = chat.source
  if source and not (api.nvim_buf_is_loaded(source) and client.of(source)) then
    source = nil
  end
  local function fail(why)
    chat.is_busy = true
    events.break_off(chat, why)
  end
  local function send(running)
    local params = {
      session = chat.session,
      text = text,
      contextRefs = references,
      textDocument = source and { uri = vim.uri_from_bufnr(source) } or nil,
    }
    client.ask(running, 'pairwright/chat/send', params, function(err)
      if err then
        fail(err)
      end
    end, source)
  end
  client.reach(chat.buf, function(running)
    if chat.session then
      return send(running)
    end
    client.ask(running, 'pairwright/session/new', vim.empty_dict(), function(err, result)
      if err then
        return fail(err)
      end
      follow(chat, result.session, 0)
      send(running)
    end)
  end, fail)
end

--- Sends the question that is written in a chat.
---@param buf? integer
function M.send(buf)
  local chat = chat_of(buf or api.nvim_get_current_buf())
  if not chat then
    return nvim.complain('there is no chat; :Pairwright chat opens one')
  end
  if chat.is_busy then
    return nvim.complain('the last question is still being answered; :Pairwright chat stop ends that')
  end
  local text = page.question(chat)
  if text == '' then
    return nvim.complain('write a question below the last heading first')
  end
  page.begin_own_turn(chat)
  page.note(chat, chat.label, 'waits for an answer')
  chat.is_busy, chat.is_own = true, true
  ask(chat, text)
end

--- Opens the chat of a folder; with a question, asks it. The lines of a range go with the next one.
---@param buf integer
---@param text? string
---@param range? integer[]
function M.open(buf, text, range)
  local chat = chat_of(buf) or create(client.folder(buf))
  look_at(chat, buf, range)
  show(chat)
  if not text or text == '' then
    return
  end
  if chat.is_busy then
    return nvim.complain('the last question is still being answered; :Pairwright chat stop ends that')
  end
  api.nvim_buf_set_lines(chat.buf, -2, -1, false, plain.lines(text))
  M.send(chat.buf)
end

--- Begins another chat.
---@param buf integer
function M.new(buf)
  local chat = create(client.folder(buf))
  look_at(chat, buf)
  show(chat)
end

--- Stops the answer that is being written.
---@param buf? integer
function M.stop(buf)
  local chat = chat_of(buf or api.nvim_get_current_buf())
  local running = chat and client.of(chat.buf)
  if not chat or not chat.is_busy or not running then
    return nvim.say('no answer is being written')
  end
  client.ask(running, 'pairwright/turn/cancel', { session = chat.session }, function(err)
    if err then
      nvim.complain(err)
    end
  end)
end

--- Proposes the block of code at the cursor as hunks; a path above it says of which file.
function M.review()
  local buf = api.nvim_get_current_buf()
  local chat = chats[buf]
  if not chat then
    return nvim.complain('this is no chat')
  end
  local block = page.block_at(chat, api.nvim_win_get_cursor(0)[1] - 1)
  if not block then
    return nvim.complain('there is no whole block of code at the cursor')
  end
  local is_there = chat.source and api.nvim_buf_is_loaded(chat.source)
  require('pairwright.hunks').preview(block, is_there and chat.source)
end

--- Shows a session that is kept, and goes on with it.
---@param running vim.lsp.Client
---@param session string
---@param source? integer
local function load(running, session, source)
  for _, chat in pairs(chats) do
    if chat.session == session then
      return show(chat)
    end
  end
  local chat = create(running.config.root_dir)
  chat.source = source
  show(chat)
  local function read_from(from)
    local params = { session = session, fromSeq = from, limit = PAGE }
    client.ask(running, 'pairwright/session/load', params, function(err, result)
      if err then
        return nvim.complain(err)
      end
      local last = from - 1
      for _, event in ipairs(result.events) do
        events.take(chat, event)
        last = event.seq
      end
      if #result.events == PAGE then
        return read_from(last + 1)
      end
      -- Whether somebody still answers, the server will tell.
      chat.is_busy = false
      follow(chat, session, last)
      sessions.catch_up(running, session)
      api.nvim_exec_autocmds('User', { pattern = 'PairwrightLoaded', modeline = false })
    end)
  end
  read_from(1)
end

--- Lets the user choose one of the chats and tasks that are kept.
---@param buf integer
function M.choose(buf)
  sessions.choose(buf, 'all', function(running, session)
    if session.state then
      return require('pairwright.task').show(running, session.id)
    end
    load(running, session.id, vim.bo[buf].buftype == '' and buf or nil)
  end)
end

--- Has a part of a document explained, in a chat of its own.
---@param part { uri: string, range: table }
---@param buf integer
function M.explain(part, buf)
  client.reach(buf, function(running)
    local params = { command = 'pairwright.explainCode', arguments = { part } }
    client.ask(running, 'workspace/executeCommand', params, function(err, result)
      if err then
        return nvim.complain(err)
      end
      local chat = create(running.config.root_dir)
      look_at(chat, buf)
      show(chat)
      follow(chat, result.session, 0)
      sessions.catch_up(running, result.session)
    end, buf)
  end)
end

return M
