-- Writes the types of the server's settings from the schema: nvim -l scripts/settings.lua
-- With --check it writes nothing and fails when the file is not what it would write.
local folder = vim.fs.dirname(vim.fs.dirname(vim.fs.normalize(vim.uv.fs_realpath(arg[0]))))
local path = folder .. '/lua/pairwright/settings.lua'

local function read(file)
  local handle = assert(io.open(file))
  local text = handle:read('*a')
  handle:close()
  return text
end

local types = { integer = 'integer', string = 'string', boolean = 'boolean', number = 'number' }

local function type_name(schema, name)
  if schema.enum or schema.oneOf or schema.anyOf then
    local names = {}
    for _, value in ipairs(schema.enum or {}) do
      if value ~= vim.NIL then
        table.insert(names, "'" .. value .. "'")
      end
    end
    for _, one in ipairs(schema.oneOf or schema.anyOf or {}) do
      if one.const then
        table.insert(names, "'" .. one.const .. "'")
      elseif one.type ~= 'null' then
        table.insert(names, (type_name(one, name)))
      end
    end
    return table.concat(names, '|')
  end
  local kind = schema.type
  if type(kind) == 'table' then
    kind = kind[1] == 'null' and kind[2] or kind[1]
  end
  if kind == 'array' then
    return type_name(schema.items, name) .. '[]'
  elseif kind == 'object' and schema.properties then
    return 'pairwright.Settings.' .. name
  elseif kind == 'object' then
    return ('table<string, %s>'):format(type_name(schema.additionalProperties, name))
  end
  return assert(types[kind], 'a type for ' .. vim.inspect(schema))
end

local out = {
  '---@meta',
  '-- Settings of the server. Written by scripts/settings.lua from editors/settings.schema.json.',
}

local function class(schema, name)
  local inner = {}
  table.insert(out, '')
  table.insert(out, '---@class pairwright.Settings' .. (name == '' and '' or '.' .. name))
  local keys = vim.tbl_keys(schema.properties)
  table.sort(keys)
  for _, key in ipairs(keys) do
    local property = schema.properties[key]
    local full = name == '' and key or name .. '.' .. key
    local text = (property.description or ''):gsub('%s+', ' ')
    table.insert(out, vim.trim(('---@field %s? %s %s'):format(key, type_name(property, full), text)))
    for _, one in ipairs({ property, property.additionalProperties or {}, property.items or {}, unpack(property.anyOf or {}) }) do
      if type(one) == 'table' and one.properties then
        table.insert(inner, { one, full })
      end
    end
  end
  for _, one in ipairs(inner) do
    class(one[1], one[2])
  end
end

class(vim.json.decode(read(folder .. '/../settings.schema.json')), '')
local text = table.concat(out, '\n') .. '\n'

if arg[1] == '--check' then
  if read(path) ~= text then
    io.stderr:write(path .. ' is not what the schema says; run scripts/settings.lua\n')
    os.exit(1)
  end
else
  local handle = assert(io.open(path, 'w'))
  handle:write(text)
  handle:close()
end
