#!/bin/sh
# The main job, from plan to proof, in a world of its own: no account, no terminal, nothing left behind.
set -eu

folder=$(mktemp -d /tmp/opsctl.XXXXXX)  # short, since the path of a socket may have 107 bytes
export OPSCTL_SANDBOX="$folder/world" XDG_STATE_HOME="$folder/state" OPSCTL_ENV=sandbox
unset OPSCTL_CONFIG OPSCTL_TEMPO

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
headline() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
run() { printf '$ opsctl %s\n' "$*"; opsctl "$@" </dev/null; }
thief() { python -m opsctl.sandbox.stolen_session "$@"; }
newest() { opsctl -o json runs list | python -c 'import json, sys; run = json.load(sys.stdin)[0]; print(run["run"], run["state"])'; }

leave() {
  code=$?
  trap - EXIT
  headline "The world is taken down"
  run sandbox down || true
  rm -rf "$folder"
  [ "$code" -eq 0 ] || echo "demo: it failed at the step above (exit $code)" >&2
  exit "$code"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

headline "A whole world on this machine: AWS, PostgreSQL, Valkey, the API; 10,000 users, 50,000 sessions"
run sandbox up
run status

headline "A session is stolen, and works"
thief steal "$folder/stolen"
thief use "$folder/stolen" --expect accepted

headline "The dry run: every step, what it would change, for how many, and what has no way back (exit 3)"
run playbook run token-compromise --dry-run || [ $? -eq 3 ]

headline "The real run; the checklist's questions are passed, as only the sandbox allows"
run playbook run token-compromise --yes --assume-answers --reason "demo: signing key leaked"
made=$(newest)

headline "The stolen session, after it"
thief use "$folder/stolen" --expect refused

headline "The same run again: already so"
run playbook run token-compromise --yes --assume-answers --reason "demo: once more"
again=$(newest)
[ "${made#* } ${again#* }" = "changed unchanged" ]

headline "The record: who, when, why, what, before, after"
run runs list
run runs show "${made% *}"
run runs verify
