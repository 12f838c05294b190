--- Chat in a Markdown buffer: the question is written at its end, the answer streams in above.
---
--- Holds: a chat is one session of the server, followed also after the server was started again.
--- Not here: how it is written (`chat_text.lua`); what is answered, which is the server's.
local client = require('pairwright.client')
local nvim = require('pairwright.nvim')
local page = require('pairwright.chat_text')
local plain = require('pairwright.plain')
local sessions = require('pairwright.sessions')
local view = require('pairwright.view')

local M = {}

local api = vim.api

--- Events that one request answers at most.
local PAGE = 1000
--- Pieces shown to a model that are named.
local NAMED = 3

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

---@param message string
local function complain(message)
  nvim.say(message, vim.log.levels.ERROR)
end

---@param chat pairwright.Chat
---@param shown table[]
local function note_shown(chat, shown)
  local names = {}
  for i = 1, math.min(#shown, NAMED) do
    names[i] = (plain.one_line(shown[i].title, 40))
  end
  if #shown > NAMED then
    table.insert(names, ('%d more'):format(#shown - NAMED))
  end
  page.note(chat, chat.label, #names > 0 and 'shown ' .. table.concat(names, ', ') or '')
end

---@param chat pairwright.Chat
---@param places table[]
local function cite(chat, places)
  local lines = vim.tbl_map(function(found)
    return '- ' .. found.path .. (found.firstLine and (':%d'):format(found.firstLine) or '')
  end, places)
  page.insert_block(chat, table.concat(lines, '\n'))
end

---@param chat pairwright.Chat
---@param files table[]
local function tell_hunks(chat, files)
  local changes = vim.tbl_map(function(file)
    return ('%s +%d -%d'):format(file.path, file.added, file.removed)
  end, files)
  local where = table.concat(changes, ', ')
  page.quote(chat, ('Hunks to decide in %s; see `:Pairwright hunks`.'):format(where))
end

---@param chat pairwright.Chat
---@param event table
local function on_event(chat, event)
  if not api.nvim_buf_is_loaded(chat.buf) then
    return
  end
  local kind = event.kind
  if kind == 'question' then
    if chat.is_own then
      chat.is_own = false
    else
      page.begin_turn(chat, event.text)
    end
    chat.is_busy = true
    note_shown(chat, event.shown or {})
  elseif kind == 'message' then
    page.insert(chat, event.text)
  elseif kind == 'notice' then
    page.quote(chat, event.text)
  elseif kind == 'cited' then
    cite(chat, event.places)
  elseif kind == 'diff' and event.proposal then
    tell_hunks(chat, event.files)
  elseif kind == 'done' then
    page.close_fence(chat)
    chat.is_busy = false
    if event.reason == 'stopped' then
      page.quote(chat, 'Stopped.')
    elseif event.summary then
      page.quote(chat, event.summary)
    end
    api.nvim_exec_autocmds('User', { pattern = 'PairwrightAnswered', modeline = false })
  end
end

--- An answer that nobody writes any more.
---@param chat pairwright.Chat
---@param why string
local function break_off(chat, why)
  if chat.is_busy and api.nvim_buf_is_loaded(chat.buf) then
    page.close_fence(chat)
    page.quote(chat, why)
  end
  chat.is_busy, chat.is_own = false, false
end

---@param chat pairwright.Chat
---@param session string
---@param seq integer
local function follow(chat, session, seq)
  chat.session = session
  sessions.follow(session, chat.root, seq, {
    on_event = function(event)
      on_event(chat, event)
    end,
    on_lost = function()
      break_off(chat, 'The server ended before the answer did. Ask again.')
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
    break_off(chat, why)
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
  end)
end

--- Sends the question that is written in a chat.
---@param buf? integer
function M.send(buf)
  local chat = chat_of(buf or api.nvim_get_current_buf())
  if not chat then
    return complain('there is no chat; :Pairwright chat opens one')
  end
  if chat.is_busy then
    return complain('the last question is still being answered; :Pairwright chat stop ends that')
  end
  local text = page.question(chat)
  if text == '' then
    return complain('write a question below the last heading first')
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
    return complain('the last question is still being answered; :Pairwright chat stop ends that')
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
      complain(err)
    end
  end)
end

--- Proposes the block of code at the cursor as hunks; a path above it says of which file.
function M.review()
  local buf = api.nvim_get_current_buf()
  local chat = chats[buf]
  if not chat then
    return complain('this is no chat')
  end
  local block = page.block_at(chat, api.nvim_win_get_cursor(0)[1] - 1)
  if not block then
    return complain('there is no whole block of code at the cursor')
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
        return complain(err)
      end
      local last = from - 1
      for _, event in ipairs(result.events) do
        on_event(chat, event)
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
  sessions.list(buf, function(running, kept)
    if #kept == 0 then
      return nvim.say('nothing was asked here yet')
    end
    vim.ui.select(kept, {
      prompt = 'Chats and tasks',
      kind = 'pairwright_session',
      format_item = function(session)
        local what = session.state and ('task, %s'):format(session.state) or 'chat'
        local day = os.date('%Y-%m-%d %H:%M', math.floor(session.created / 1000))
        return ('%s  %s  (%s)'):format(day, (plain.one_line(session.title, 60)), what)
      end,
    }, function(session)
      if not session then
        return
      end
      if session.state then
        return require('pairwright.task').show(running, session.id)
      end
      load(running, session.id, vim.bo[buf].buftype == '' and buf or nil)
    end)
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
        return complain(err)
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
