"""The writer of scripts: statements after one preamble."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from msgspec import Struct

from opsctl.shell.statements import Export, Statement, expect
from opsctl.shell.words import Need, Program, Variable, plain, text


def walk(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Every statement, and every statement inside it."""
    for statement in statements:
        yield statement
        yield from walk(statement.inner())


class Script(Struct, frozen=True, kw_only=True):
    """Statements after one preamble. `title` is the command that they replace, `account` the only AWS account in which they may run.

    `proxy` is the HTTPS proxy, `ca` the file with the certificate authorities that are trusted for AWS.
    """

    title: str
    statements: tuple[Statement, ...]
    account: str = ""
    endpoint: str | None = None
    proxy: str | None = None
    ca: str | None = None

    def __str__(self) -> str:
        """The whole script. The shell reads it to the end before it runs the first line, also from a pipe that breaks."""
        every = list(walk(self.statements))
        called = dict.fromkeys(program for statement in every for program in statement.programs())
        own = [program for program in called if isinstance(program, Program)]
        outside = sorted({name for name in called if isinstance(name, str)} | {name for one in own for name in ("python3", *one.needs)})
        needs = {need.variable: need for statement in every for need in statement.needs()}
        lines = ["#!/usr/bin/env bash", f"# {plain(self.title)}", *PREAMBLE.splitlines()]
        lines += self._strays()
        for program in own:
            lines += ["", f"{program.name}() {{", f'  python3 -I -X utf8 -c {shlex.quote(program.code.strip())} "$@"', "}"]
        lines += ["", "main() {"]
        lines += [f"  program {text(name)}" for name in outside]
        lines += [f"  {line}" for need in needs.values() for line in _asked(need)]
        if "aws" in outside:
            lines += [f"  {line}" for line in self._place()]
        for statement in self.statements:
            lines += [f"  {line}" for line in statement.lines()]
        # Programs must not read the script's own text if it comes from standard input.
        return "\n".join([*lines, "}", "", 'main "$@" < /dev/null', ""])

    def _strays(self) -> Iterator[str]:
        """Statements that unset the caller's variables which would change a system's address or its trusted certificates."""
        yield f"unset {' '.join(STRAYS)}"
        if self.endpoint is None:
            yield from Export(variable="AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", value="true").lines()
        for variable, value in (("HTTPS_PROXY", self.proxy), ("AWS_CA_BUNDLE", self.ca)):
            if value is not None:
                yield from Export(variable=variable, value=value).lines()

    def _place(self) -> Iterator[str]:
        if self.endpoint:
            yield from Export(variable="AWS_ENDPOINT_URL", value=self.endpoint).lines()
        yield 'account="$(aws sts get-caller-identity --query Account --output text)"'
        yield from expect(
            Variable("account"), self.account, f"These credentials belong to another AWS account, not to {self.account}."
        ).lines()


def _asked(need: Need) -> Iterator[str]:
    """Statements that ask for variables; a secret that was exported is not passed on to programs."""
    yield f"want {need.variable} {text(plain(need.about))} {'secret' if need.secret else 'shown'}"
    if need.secret:
        yield f"export -n {need.variable}"


STRAYS = (
    '"${!AWS_ENDPOINT_URL@}"',
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
)
"""Variables that lead a program elsewhere, or have it trust somebody else."""

PREAMBLE = r"""
set -euo pipefail
umask 077
export AWS_PAGER='' PYTHONUTF8=1 PGCLIENTENCODING=UTF8 PGAPPNAME=opsctl-by-hand

say() { printf '%s\n' "$1" >&2; }
stop() { say "$1"; exit 1; }
program() { command -v "$1" > /dev/null || stop "This script needs the program $1."; }
terminal() { { : > /dev/tty; } 2> /dev/null || stop "There is no terminal to ask in: $1"; }
want() {
  [ -z "${!1:-}" ] || return 0
  terminal "set the variable $1: $2"
  printf '%s (%s): ' "$2" "$1" > /dev/tty
  if [ "$3" = secret ]; then IFS= read -rs "$1" < /dev/tty; printf '\n' > /dev/tty; else IFS= read -r "$1" < /dev/tty; fi
  [ -n "${!1:-}" ] || stop "No value was given for $1."
}
question() {
  local line="$1" choice
  shift
  terminal "$line"
  while :; do
    printf '%s (' "$line" > /dev/tty
    printf ' %s' "$@" > /dev/tty
    printf ' ): ' > /dev/tty
    IFS= read -r answer < /dev/tty || stop "No answer to: $line"
    for choice in "$@"; do if [ "$answer" = "$choice" ]; then return 0; fi; done
  done
}
work="$(mktemp -d)"
export work
trap 'rm -rf "$work"' EXIT
"""
