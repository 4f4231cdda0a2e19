-- For `wrk`: the very bytes of the file that is named after `--`, again and again.
local wire

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wire = file:read("*a")
  file:close()
end

function request()
  return wire
end
