"""The words of statements, which are always quoted: texts, files, variables, and the programs that a script contains."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from types import ModuleType


class Variable(Struct, frozen=True):
    """The value of a shell variable."""

    name: str


class File(Struct, frozen=True):
    """The path of a file in the script's temporary folder, which is deleted when the script ends."""

    name: str


class Joined(Struct, frozen=True):
    """Several words written as one."""

    parts: tuple[str | Variable | File, ...]


Word = str | Variable | File | Joined
"""What a program is given. A str is a text, never shell."""


class Program(Struct, frozen=True):
    """A small Python program that a script contains under `name`; its words are its arguments, and it calls the programs in `needs`."""

    name: str
    code: str
    needs: tuple[str, ...] = ()


def standalone(name: str, *modules: ModuleType, main: str, needs: tuple[str, ...] = ()) -> Program:
    """A program made of the source of modules that need only Python, and of what it does with them."""
    import inspect

    source = "\n".join(inspect.getsource(module).replace(FUTURE, "") for module in modules)
    return Program(name, f"{FUTURE}\n{source}\n{main}", needs)


FUTURE = "from __future__ import annotations\n"


class Need(Struct, frozen=True):
    """A variable that the script's caller sets, or is asked for on the terminal; a secret is typed without echo."""

    variable: str
    about: str
    secret: bool = False


def joined(*parts: str | Variable | File) -> Joined:
    """Several words as one: `--revision-id=` and a variable."""
    return Joined(parts)


def text(word: str) -> str:
    """Quotes a text for the shell, on one line; control and invisible characters are written as bytes."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character == "\n":
        return "\\n"
    if character.isprintable():
        return character
    # Bash before 4.2 knows no \u. NUL ends a word in every shell, and no argument can carry one.
    return "".join(f"\\x{byte:02x}" for byte in _bytes(character) if byte)


def _bytes(character: str) -> bytes:
    try:
        return character.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return character.encode(errors="surrogatepass")


def plain(line: str) -> str:
    """`line` for a comment or a prompt: on one line, without control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def word(one: Word) -> str:
    """The shell text of a word."""
    match one:
        case str():
            return text(one)
        case Variable(name):
            return f'"${{{name}}}"'
        case File(name):
            return f'"$work"/{text(name)}'
        case Joined(parts):
            return "".join(word(part) for part in parts) or "''"
