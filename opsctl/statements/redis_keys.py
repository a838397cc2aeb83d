"""Scanning millions of Redis keys: the Lua script of one step, and Redis globs as Lua patterns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

STEP_KEYS = 2000
"""How many keys a step looks at: a few milliseconds, in which other clients wait."""

UNLINK_KEYS = 1000
"""How many keys one UNLINK names; in a cluster one, since keys of several slots can't be named together."""

# ARGV: cursor, COUNT, glob, cutoff (-1: whatever its age) and lifetime in milliseconds, how many to unlink at once (0: none, and ages are
# asked until one is old); where a key's user begins (0: where the text before it matches the Lua pattern that comes next), the text right
# after the user (empty: the user ends the key), the Lua pattern of all that comes after it; how many users follow (-1: everybody's keys),
# the users; then the Lua patterns to spare. A user's key is one that matches with this user's very id in it, whatever the id holds.
# Returns the next cursor, how many keys are old, how many of those begin in the future, how many aren't spared, and how many match.
STEP = """
local cutoff, lifetime, batch = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local start, before, separator, after, count = tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11])
local clocks_apart, time = 10000, redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local page = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2], 'MATCH', ARGV[3])
local found, future, all, chosen, wanted = 0, 0, 0, {}, {}
for i = 12, 11 + count do wanted[ARGV[i]] = true end
local first_spared = 12 + math.max(count, 0)
local keys, met = page[2], #page[2]
if cutoff < 0 and count < 0 and first_spared > #ARGV then
  found, all, chosen, keys = #keys, #keys, keys, {}
end
local function theirs(key)
  local first, last = start, start
  if start == 0 then first, last = 1, #key end
  for from = first, last do
    if start > 0 or string.find(string.sub(key, 1, from - 1), before) then
      local at = from - 1
      repeat
        if separator == '' then at = #key + 1 else at = string.find(key, separator, at + 1, true) end
        if not at then break end
        if wanted[string.sub(key, from, at - 1)] and string.find(string.sub(key, at), after) then return true end
      until separator == ''
    end
  end
  return false
end
for _, key in ipairs(keys) do
  local spared = count >= 0 and not theirs(key)
  for i = first_spared, #ARGV do
    if string.find(key, ARGV[i]) then spared = true break end
  end
  if not spared then
    local left = (cutoff < 0 or (batch == 0 and found > 0)) and -1 or redis.call('PTTL', key)
    all = all + 1
    local ahead = left > lifetime + clocks_apart
    if left == -1 or ahead or (left >= 0 and now - lifetime + left < cutoff) then
      found = found + 1
      if ahead then future = future + 1 end
      if batch > 0 then chosen[found] = key end
    end
  end
end
if batch > 0 then
  found = 0
  for i = 1, #chosen, batch do found = found + redis.call('UNLINK', unpack(chosen, i, math.min(i + batch - 1, #chosen))) end
end
return {page[1], found, future, all, met}
"""

ANY, NONE = "[%z\x01-\xff]", "[^%z\x01-\xff]"
BYTES = frozenset(range(256))
SPECIAL = re.compile(r"[*?\[\\]")


def lua_pattern(glob: bytes) -> bytes:
    """An anchored Lua 5.1 pattern of a Redis glob (`*`, `?`, `[a-z]`, `[^a]`, backslash).

    Like Redis' `stringmatchlen`: a class may lack its end, `[]` matches nothing, and a range may be reversed.
    """
    pieces, at = ["^"], 0
    while at < len(glob):
        byte, at = glob[at], at + 1
        if byte == ord("*"):
            pieces.append(".*")
        elif byte == ord("?"):
            pieces.append(".")
        elif byte == ord("["):
            members, at = _members(glob, at)
            pieces.append(_one_of(members))
        else:
            if byte == ord("\\") and at < len(glob):
                byte, at = glob[at], at + 1
            pieces.append(_literal(byte))
    return "".join([*pieces, "$"]).encode("latin-1")


def disjoint(glob: str, other: str) -> bool:
    """Whether certainly no key matches both globs, by their texts before the first special character."""
    one, two = SPECIAL.split(glob, maxsplit=1)[0], SPECIAL.split(other, maxsplit=1)[0]
    return not one.startswith(two) and not two.startswith(one)


def searches(
    patterns: Sequence[str], keep: Sequence[str], users: Sequence[str] | None, user_pattern: str
) -> Iterator[tuple[str, list[str | bytes], list[bytes]]]:
    """Each glob to scan, with STEP's arguments for whose keys count, and for those to spare.

    A key that matches several patterns counts for the first one only.
    """
    globs: list[str] = list(patterns)
    whose: list[str | bytes] = ["0", "", "", "", "-1"]
    if users is not None:
        everybody, start, before, separator, after = user_keys(user_pattern)
        globs, whose = [everybody], [str(start), before, separator, after, str(len(users)), *users]
    for place, glob in enumerate(globs):
        spared = [lua_pattern(each.encode()) for each in (*keep, *globs[:place]) if not disjoint(each, glob)]
        yield glob, whose, spared


class UserKeys(NamedTuple):
    """Where a user's id is in a key: the glob of all users' keys, and STEP's arguments; `separator` is the text right after the id."""

    everybody: str
    start: int
    before: bytes
    separator: bytes
    after: bytes


def user_keys(pattern: str) -> UserKeys:
    """Parses a pattern such as `session:{user}:*`."""
    before, _, after = pattern.partition("{user}")
    head = _literal_head(before)
    start = 1 + len(head) if len(_unescaped(before)) == len(head) else 0
    return UserKeys(f"{before}*{after}", start, lua_pattern(before.encode()), _literal_head(after), lua_pattern(after.encode()))


def _literal_head(glob: str) -> bytes:
    """The text that every matching key begins with, up to the first wildcard."""
    plain = re.match(r"(?:[^*?\[\\]|\\.)*", glob, re.DOTALL)
    return _unescaped(plain[0] if plain else "")


def _unescaped(glob: str) -> bytes:
    return re.sub(r"\\(.)", r"\1", glob, flags=re.DOTALL).encode()


def _members(glob: bytes, at: int) -> tuple[frozenset[int], int]:
    """The bytes of the class that begins at `at`, and where the pattern continues."""
    negated = glob[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(glob) and glob[at] != ord("]"):
        if glob[at] == ord("\\") and at + 1 < len(glob):
            members.add(glob[at + 1])
            at += 2
        elif glob[at + 1 : at + 2] == b"-" and at + 2 < len(glob):
            members |= _range(glob[at], glob[at + 2])
            at += 3
        else:
            members.add(glob[at])
            at += 1
    return (BYTES - members if negated else frozenset(members)), at + 1


def _range(one: int, other: int) -> frozenset[int]:
    # With signed bytes, non-ASCII comes before ASCII. Sparing too many keys is the safe error.
    signed = sorted((one - 256 * (one > 127), other - 256 * (other > 127)))
    return frozenset(range(min(one, other), max(one, other) + 1)) | {each % 256 for each in range(signed[0], signed[1] + 1)}


def _one_of(members: frozenset[int]) -> str:
    if len(members) == 256:
        return ANY
    if not members:
        return NONE
    return f"[{''.join(map(_literal, sorted(members)))}]"


def _literal(byte: int) -> str:
    if byte == 0:
        return "%z"
    return chr(byte) if byte > 127 or byte < 33 or chr(byte).isalnum() else f"%{chr(byte)}"
