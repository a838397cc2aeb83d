#!/bin/sh
# Rehearse a token compromise in a sandbox of its own: no account, no terminal, nothing left behind.
set -eu

folder=$(mktemp -d /tmp/opsctl.XXXXXX)  # short, since the path of a socket may have 107 bytes
export OPSCTL_SANDBOX="$folder/world" XDG_STATE_HOME="$folder/state" OPSCTL_ENV=sandbox
unset OPSCTL_CONFIG OPSCTL_TEMPO

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
headline() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
run() { printf '$ opsctl %s\n' "$*"; opsctl "$@" </dev/null; }
thief() { python -m opsctl.sandbox.stolen_session "$@"; }
newest() { opsctl -o json runs list | python -c 'import json, sys; run = json.load(sys.stdin)[0]; print(run["run"], run["state"])'; }

summary() {
  headline "What you saw"
  cat <<'END'
1. A dry run showed every step of the playbook and changed nothing.
2. The run ended 50,000 sessions, replaced the signing key and all tasks, and verified both.
3. The stolen session worked before the run, and was refused after it.
4. The same run again had nothing to do. The ledger recorded who, when and why, and is intact.
Type next, to try it yourself:
  . .venv/bin/activate && export OPSCTL_ENV=sandbox && opsctl sandbox up
  opsctl status                          what is wrong now
  opsctl service scale api 4 -n          a plan; without -n it is applied
  opsctl runbook                         what to type when something is wrong
END
}

leave() {
  code=$?
  trap - EXIT
  headline "Stop the sandbox"
  run sandbox down || true
  rm -rf "$folder"
  [ "$code" -eq 0 ] && summary || echo "demo: failed at the step above (exit $code)" >&2
  exit "$code"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

headline "Start a sandbox: AWS, PostgreSQL, Valkey and the API, with 10,000 users and 50,000 sessions"
run sandbox up
run status

headline "Steal a session: it works"
thief steal "$folder/stolen"
thief use "$folder/stolen" --expect accepted

headline "Dry run: every step, its impact, and what can't be undone (exit 3)"
run playbook run token-compromise --dry-run || [ $? -eq 3 ]

headline "Run it; the sandbox alone allows to assume a person's answers"
run playbook run token-compromise --yes --assume-answers --reason "demo: signing key leaked"
made=$(newest)

headline "Use the stolen session again: it is refused"
thief use "$folder/stolen" --expect refused

headline "Run it again: nothing to do"
run playbook run token-compromise --yes --assume-answers --reason "demo: once more"
again=$(newest)
[ "${made#* } ${again#* }" = "changed unchanged" ]

headline "The ledger: what was run, and that nobody changed it"
run runs list
run runs verify
