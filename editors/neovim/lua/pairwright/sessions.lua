--- Chats and tasks that are looked at: their events, in order and each once.
---
--- Holds: a session is followed across servers: one that is started again tells what was missed.
--- Not here: what events mean (`chat.lua`, `task.lua`).
local client = require('pairwright.client')
local nvim = require('pairwright.nvim')
local plain = require('pairwright.plain')

local M = {}

---@class pairwright.Event
---@field session string
---@field turn integer
---@field seq integer
---@field kind string

---@class pairwright.Follower
---@field on_event fun(event: pairwright.Event)
---@field on_lost fun() The server is gone.
---@field on_back fun(why?: string) Another server knows the session, or why it does not.

---@class pairwright.Followed
---@field root string
---@field seq integer The last event that was passed on.
---@field follower pairwright.Follower
---@field is_attaching boolean

local followed = {} ---@type table<string, pairwright.Followed>

--- Has the events told that are missing.
---@param running vim.lsp.Client
---@param session string
---@param done? fun(why?: string)
local function attach(running, session, done)
  local known = followed[session]
  if known.is_attaching then
    return
  end
  known.is_attaching = true
  local params = { session = session, fromSeq = known.seq + 1 }
  client.ask(running, 'pairwright/session/attach', params, function(err, _, is_gone)
    known.is_attaching = false
    -- Whether it is kept, the next server tells.
    if done and not is_gone then
      done(err)
    end
  end)
end

--- Passes the events of a session on that come after `seq`, from now on.
---@param session string
---@param root string
---@param seq integer
---@param follower pairwright.Follower
function M.follow(session, root, seq, follower)
  followed[session] = { root = root, seq = seq, follower = follower, is_attaching = false }
end

--- Has the events told that came before |follow()|.
---@param running vim.lsp.Client
---@param session string
function M.catch_up(running, session)
  attach(running, session)
end

---@param session string
function M.forget(session)
  followed[session] = nil
end

--- Takes what a server tells.
---@param client_id integer
---@param event pairwright.Event
function M.take(client_id, event)
  local known = followed[event.session]
  if not known or event.seq <= known.seq then
    return
  end
  if event.seq > known.seq + 1 then
    local running = vim.lsp.get_client_by_id(client_id)
    return running and attach(running, event.session)
  end
  known.seq = event.seq
  known.follower.on_event(event)
end

---@param root string
---@return pairwright.Followed[], string[]
local function at(root)
  local all, sessions = {}, {}
  for session, known in pairs(followed) do
    if known.root == root then
      table.insert(all, known)
      table.insert(sessions, session)
    end
  end
  return all, sessions
end

--- Whether something of a folder is looked at.
---@param root string
---@return boolean
function M.has_any(root)
  return #at(root) > 0
end

--- The server of a folder is gone.
---@param root string
function M.lost(root)
  for _, known in ipairs((at(root))) do
    known.is_attaching = false
    known.follower.on_lost()
  end
end

--- A server of a folder was started: goes on with what is looked at.
---@param running vim.lsp.Client
function M.started(running)
  local _, sessions = at(running.config.root_dir)
  for _, session in ipairs(sessions) do
    attach(running, session, function(why)
      local known = followed[session]
      if known then
        known.follower.on_back(why)
      end
    end)
  end
end

---@param session table
---@return string
local function in_words(session)
  local what = session.state and ('task, %s'):format(session.state) or 'chat'
  local day = os.date('%Y-%m-%d %H:%M', math.floor(session.created / 1000))
  return ('%s  %s  (%s)'):format(day, (plain.one_line(session.title, 60)), what)
end

--- Lets the user choose one of what is kept of a folder.
---@param buf integer
---@param which 'all'|'tasks'
---@param done fun(running: vim.lsp.Client, session: table)
function M.choose(buf, which, done)
  client.reach(buf, function(running)
    client.ask(running, 'pairwright/session/list', vim.empty_dict(), function(err, result)
      if err then
        return nvim.complain(err)
      end
      local kept = vim.tbl_filter(function(session)
        return which == 'all' or session.state ~= nil
      end, result.sessions)
      if #kept == 0 then
        return nvim.say(which == 'all' and 'nothing was asked here yet' or 'there were no tasks here yet')
      end
      vim.ui.select(kept, {
        prompt = which == 'all' and 'Chats and tasks' or 'Tasks',
        kind = 'pairwright_session',
        format_item = in_words,
      }, function(session)
        if session then
          done(running, session)
        end
      end)
    end)
  end)
end

return M
