"""curl requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from opsctl.changes.raw.values import ITS, SET_MEMBER, credential
from opsctl.shell import Assign, Command, Equal, File, Must, Put, Statement, Variable, When, Word, capture, joined, piped, run

if TYPE_CHECKING:
    from opsctl.config import Environment


def bearer(token: File, into: File, *, word: str = "Authorization: Bearer ") -> list[Statement]:
    """Writes the header with a token to a file, in curl's format."""
    return [capture("token", run("cat", stdin=token)), Put(file=into, words=(joined(word, Variable("token")),), end="\n")]


def curl(
    method: str, url: Word | None, *more: Word, headers: Iterable[File] = (), body: Word | File | None = None, lenient: bool = False
) -> Command:
    """A request. The body comes from standard input or a file, secret headers from files, a secret address from an option in `more`.

    With `lenient`, every status is accepted.
    """
    words: list[Word] = ["-q", "-sS" if lenient else "-fsS", "--globoff", "--max-time", "60", "-X", method]
    for header in headers:
        words += ["-H", joined("@", header)]
    if body is not None:
        words += ["-H", "Content-Type: application/json", "--data-binary", joined("@", body) if isinstance(body, File) else "@-"]
    words += [*more, *(["--url", url] if url is not None else [])]
    return run("curl", *words, given=() if body is None or isinstance(body, File) else (body,))


def path(*parts: str) -> str:
    """Path segments of an address, each quoted."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def administrator(environment: Environment, header: File, *statements: Statement) -> list[Statement]:
    """Statements that query the application's API as its administrator, with the header in a file.

    A token that the API refuses, because its signing key was rotated, is renewed with the configured login, which is logged out at the end.
    """
    settings = environment.api
    token, status = File("admin-token"), ("-o", "/dev/null", "-w", "%{http_code}")
    look = curl("GET", f"{settings.base}/v1/auth/me", *status, headers=[header], lenient=True)
    begin = [*credential(environment, settings.token, token), *bearer(token, header), capture("status", look)]
    who = Equal(one=Variable("status"), other="200")
    if settings.login is None:
        refused = f"The API refuses the administrator's token in {settings.token}. Replace it there."
        return [*begin, Must(test=who, otherwise=refused), *statements]
    email, password, body = File("email"), File("password"), File("login")
    login = curl("POST", f"{settings.base}/v1/auth/login", body=body)
    anew = [
        *credential(environment, settings.login.email, email),
        *credential(environment, settings.login.password, password),
        Put(file=body, words=("{}",)),
        *(piece for name, file in (("email", email), ("password", password)) for piece in _with(body, name, file)),
        piped(login, run(ITS, "accessToken"), output=token),
        *bearer(token, header),
        Assign(variable="own_login", value="yes"),
    ]
    # A logout of all users has ended this login too.
    end = curl("POST", f"{settings.base}/v1/auth/logout", headers=[header], body="{}", lenient=True)
    ours = Equal(one=Variable("own_login"), other="yes")
    return [
        *begin,
        Assign(variable="own_login", value="no"),
        When(test=who, then=(Assign(variable="own_login", value="no"),), otherwise=tuple(anew)),
        *statements,
        When(test=ours, then=(end,)),
    ]


def _with(body: File, name: str, value: File) -> list[Statement]:
    """Adds another file's text as a member of a file's JSON object."""
    more = File(f"{body.name}-more")
    return [run(SET_MEMBER, body, name, value, output=more), run("mv", more, body)]
