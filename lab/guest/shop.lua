-- SPDX-License-Identifier: GPL-3.0-or-later
-- A shop's page: each request sells one thing, and the page it gets lists what was sold so far.
local PAGE = [[<!doctype html>
<html><head><meta charset="utf-8"><title>Shop</title></head>
<body><h1>Shop</h1><p id="sold">{sold}</p><p>You bought: {name}</p>
<table><tr><th>Thing</th><th>Price</th><th>Sold</th><th>Takings</th></tr>
{rows}</table></body></html>
]]
local ROW = "<tr><td>{name}</td><td>{price}</td><td>{sold}</td><td>{takings}</td></tr>\n"
local ESCAPES = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;"}

-- What is in a loaded module outlives the request; the script's own variables do not.
local shop = package.loaded.shop
if not shop then
    shop = {sold = 0}
    for n = 1, 20 do shop[n] = {name = "Thing & <part " .. n .. ">", price = 95 + 37 * n % 900, sold = 0} end
    package.loaded.shop = shop
end

local function money(cents) return string.format("%d.%02d", cents // 100, cents % 100) end

local function fill(template, values) return (template:gsub("{(%w+)}", values)) end

local thing = shop[shop.sold % #shop + 1]
shop.sold, thing.sold = shop.sold + 1, thing.sold + 1
local rows = {}
for n, each in ipairs(shop) do
    rows[n] = fill(ROW, {name = each.name:gsub("[&<>]", ESCAPES), price = money(each.price), sold = each.sold,
                         takings = money(each.price * each.sold)})
end
lighty.r.resp_header["Content-Type"] = "text/html; charset=utf-8"
lighty.r.resp_body.set(fill(PAGE, {sold = shop.sold, name = thing.name:gsub("[&<>]", ESCAPES), rows = table.concat(rows)}))
return 200
