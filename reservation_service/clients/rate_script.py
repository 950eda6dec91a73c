"""How Redis counts one request against all its limits, in one step: the same buckets and windows as in `clients/quotas`.

The keys share one hash tag, so that a cluster can run this in one place. Windows have names of their own: a key that an
older version has filled as a bucket would be of the wrong type for days.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Any

from reservation_service.clients.fast_redis import Commands
from reservation_service.clients.quotas import Left, Quota

# Takes amount, interval or span, and grain of each limit (grain 0: a bucket). Returns the number of the limit that
# refuses (0: none), how long until it would not, and for each limit how many are left and how long until all are, in µs.
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

local limits, refusing, wait = {}, 0, 0
for i, key in ipairs(KEYS) do
  local amount, span, grain = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  limits[i] = grain == 0 and bucket(key, amount, span) or window(key, amount, span, grain)
  if limits[i].wait > wait then refusing, wait = i, limits[i].wait end
end
local answer = {refusing, wait}
for i, limit in ipairs(limits) do
  if refusing == 0 then limit.add() end
  answer[2 * i + 1], answer[2 * i + 2] = limit.left()
end
return answer
"""
_DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


def ask(commands: Commands, requests: Iterable[Sequence[Quota]]) -> None:
    """Put one call per request into a pipeline; the first one carries the script, the others name it."""
    for number, quotas in enumerate(requests):
        keys = [f"{{rate-limits}}:{quota.name_in_redis}" for quota in quotas]
        numbers = [number for quota in quotas for number in quota.numbers]
        if number == 0:
            commands.eval(SCRIPT, len(keys), *keys, *numbers)
        else:
            commands.evalsha(_DIGEST, len(keys), *keys, *numbers)


def read(answer: Sequence[Any]) -> tuple[int | None, int, list[Left]]:
    """Return the place of the limit that refuses, how long it would, and what is left of each."""
    refusing, wait_us, *numbers = answer
    left = [Left(requests, full_again_us) for requests, full_again_us in zip(numbers[::2], numbers[1::2], strict=True)]
    return (refusing - 1 if refusing else None), wait_us, left
