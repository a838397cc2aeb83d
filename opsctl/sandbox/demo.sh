#!/bin/sh
# The main job, from plan to proof, in a world of its own: no account, no terminal, nothing left behind.
set -eu

folder=$(mktemp -d "${TMPDIR:-/tmp}/opsctl.XXXXXX")
export OPSCTL_SANDBOX="$folder/world" XDG_STATE_HOME="$folder/state" OPSCTL_ENV=sandbox
unset OPSCTL_CONFIG

headline() { printf '\n\033[1m== %s\033[0m\n' "$1" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }
show() { printf '$ %s\n' "$*"; }
opsctl_() { show opsctl "$@"; opsctl "$@" </dev/null; }
expect() {  # CODE COMMAND... : go on only if the command leaves with this exit code
  wanted=$1; shift
  code=0; "$@" || code=$?
  [ "$code" -eq "$wanted" ] || { echo "demo: exit code $code, not $wanted" >&2; exit 1; }
}
leave() { code=$?; trap - EXIT; headline "The world is taken down"; opsctl_ sandbox down || true; rm -rf "$folder"; exit "$code"; }
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

headline "A whole world on this machine: AWS, PostgreSQL, Valkey, the API; 10,000 users, 50,000 sessions"
opsctl_ sandbox up
opsctl_ status

headline "A session is stolen, and works"
python -m opsctl.sandbox.thief steal "$folder/stolen"
python -m opsctl.sandbox.thief use "$folder/stolen" --expect accepted

headline "The dry run: every step, what it would change, for how many, and what has no way back (exit 3)"
expect 3 opsctl_ playbook run token-compromise --dry-run

headline "The real run; the checklist's questions are passed, as only the sandbox allows"
opsctl_ playbook run token-compromise --yes --assume-answers --reason "demo: signing key leaked"

headline "The stolen session, after it"
python -m opsctl.sandbox.thief use "$folder/stolen" --expect refused

headline "The same run again: already so"
opsctl_ playbook run token-compromise --yes --assume-answers --reason "demo: once more"

headline "The record: who, when, why, what, before, after"
opsctl_ runs list
first=$(opsctl -o json runs list | python -c 'import json, sys; print([r["run"] for r in json.load(sys.stdin) if r["command"].startswith("playbook")][-1])')
opsctl_ runs show "$first"
opsctl_ runs verify
