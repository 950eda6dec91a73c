"""How Redis counts requests against all their limits, in one step: the same buckets and windows as in `clients/quotas`.

Requests of one moment are one call: a call each costs this process more than the counting. The keys share one hash tag,
so that a cluster can run this in one place. Windows have names of their own: a key that an older version has filled as a
bucket would be of the wrong type for days.
"""

from collections.abc import Sequence
from typing import Any

from reservation_service.clients.fast_redis import Commands
from reservation_service.clients.quotas import Left, Quota

# Takes, as one text, the number of requests, how many limits each of them has, and amount, interval or span, and grain of
# each limit (grain 0: a bucket); the client spends longer on an argument than this on a number. Returns for each request
# the number of the limit that refuses (0: none), how long until it would not, and for each of its limits how many are
# left and how long until all are, in µs.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function bucket(key, amount, interval)
  local empty_at = math.max(tonumber(redis.call('GET', key) or 0), now)
  local limit = {wait = empty_at + interval - now - amount * interval}
  function limit.add()
    empty_at = empty_at + interval
    redis.call('SET', key, string.format('%.0f', empty_at), 'PX', math.ceil((empty_at - now) / 1000))
  end
  function limit.left()
    return math.floor((now + amount * interval - empty_at) / interval), empty_at - now
  end
  return limit
end

local function window(key, amount, span, grain)
  local function mark(place)
    local text = redis.call('LINDEX', key, place)
    if not text then return nil end
    local at, before, upto = string.match(text, '(%d+) (%d+) (%d+)')
    return {at = tonumber(at), before = tonumber(before), upto = tonumber(upto)}
  end
  local oldest = mark(0)
  while oldest and oldest.at + span <= now do
    redis.call('LPOP', key)
    oldest = mark(0)
  end
  local newest = oldest and mark(-1)
  local used = oldest and newest.upto - oldest.before or 0
  local limit = {wait = used < amount and 0 or oldest.at + span - now}
  function limit.add()
    local at = newest and math.max(now, newest.at) or now
    local before, upto = newest and newest.upto or 0, newest and newest.upto + 1 or 1
    if newest and math.floor(newest.at / grain) == math.floor(at / grain) then
      redis.call('RPOP', key)
      before = newest.before
    end
    newest, used = {at = at, before = before, upto = upto}, used + 1
    redis.call('RPUSH', key, string.format('%.0f %.0f %.0f', at, before, upto))
    redis.call('PEXPIRE', key, math.ceil((at + span - now) / 1000))
  end
  function limit.left()
    return math.max(0, amount - used), newest and newest.at + span - now or 0
  end
  return limit
end

local told = {}
for number in string.gmatch(ARGV[1], '%d+') do told[#told + 1] = tonumber(number) end
local requests = told[1]

local function count(first, last)
  local limits, refusing, wait = {}, 0, 0
  for place = first, last do
    local before = 1 + requests + 3 * (place - 1)
    local amount, span, grain = told[before + 1], told[before + 2], told[before + 3]
    local limit = grain == 0 and bucket(KEYS[place], amount, span) or window(KEYS[place], amount, span, grain)
    limits[#limits + 1] = limit
    if limit.wait > wait then refusing, wait = #limits, limit.wait end
  end
  local answer = {refusing, wait}
  for i, limit in ipairs(limits) do
    if refusing == 0 then limit.add() end
    answer[2 * i + 1], answer[2 * i + 2] = limit.left()
  end
  return answer
end

local answers, counted = {}, 0
for request = 1, requests do
  local limits = told[1 + request]
  answers[request] = count(counted + 1, counted + limits)
  counted = counted + limits
end
return answers
"""


def ask(commands: Commands, requests: Sequence[Sequence[Quota]]) -> None:
    """Put the one call for all these requests into a pipeline; its answer has one for each, for `read`."""
    keys = [f"{{rate-limits}}:{quota.name_in_redis}" for quotas in requests for quota in quotas]
    numbers = [len(requests), *map(len, requests)]
    numbers += [number for quotas in requests for quota in quotas for number in quota.numbers]
    commands.eval(SCRIPT, len(keys), *keys, " ".join(map(str, numbers)))


def read(answer: Sequence[Any]) -> tuple[int | None, int, list[Left]]:
    """Return the place of the limit that refuses, how long it would, and what is left of each."""
    refusing, wait_us, *numbers = answer
    left = [Left(requests, full_again_us) for requests, full_again_us in zip(numbers[::2], numbers[1::2], strict=True)]
    return (refusing - 1 if refusing else None), wait_us, left
