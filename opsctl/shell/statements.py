"""The statements of a script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from opsctl.shell.words import File, Need, Program, Variable, Word, plain, text, word


class Statement(Struct, frozen=True, kw_only=True):
    """One part of a script."""

    def lines(self) -> Iterator[str]:
        """Yields its lines."""
        raise NotImplementedError

    def inner(self) -> Iterable[Statement]:
        """The statements inside it."""
        return ()

    def needs(self) -> Iterable[Need]:
        """The variables that the script's caller has to give."""
        return ()

    def programs(self) -> Iterable[str | Program]:
        """The programs that it calls."""
        return ()


class Test(Statement, frozen=True, kw_only=True):
    """A statement that succeeds or fails, and can be a condition; it has one line."""

    def line(self) -> str:
        """Its line."""
        raise NotImplementedError

    def lines(self) -> Iterator[str]:
        """The line."""
        yield self.line()


class Command(Test, frozen=True, kw_only=True):
    """A program with its words. `stdin` is a file that it reads, `given` a text that it reads; `output` is the file for its output.

    Without `output`, its output is discarded unless it is captured, piped or `shown`.
    """

    program: str | Program
    words: tuple[Word, ...] = ()
    stdin: Word | None = None
    given: tuple[Word, ...] = ()
    output: File | None = None
    shown: bool = False

    def bare(self) -> str:
        """The line without redirection of the output."""
        name = self.program if isinstance(self.program, str) else self.program.name
        line = " ".join([text(name), *map(word, self.words)])
        if self.given:
            # printf is a shell builtin: its words are not process arguments, and have no length limit.
            return f"printf '%s\\n' {' '.join(map(word, self.given))} | {line}"
        return f"{line} < {word(self.stdin)}" if self.stdin is not None else line

    def line(self) -> str:
        """The whole line."""
        if self.output is not None:
            return f"{self.bare()} > {word(self.output)}"
        return self.bare() if self.shown else f"{self.bare()} > /dev/null"

    def programs(self) -> Iterable[str | Program]:
        """The program."""
        return (self.program,)


def run(program: str | Program, *words: Word, stdin: Word | None = None, given: Iterable[Word] = (), output: File | None = None) -> Command:
    """A program with its words."""
    return Command(program=program, words=words, stdin=stdin, given=tuple(given), output=output)


class Pipe(Test, frozen=True, kw_only=True):
    """Commands, each of which reads the output of the one before it; if one fails, all fail."""

    commands: tuple[Command, ...]
    output: File | None = None

    def bare(self) -> str:
        """The line without redirection of the output."""
        return " | ".join(command.bare() for command in self.commands)

    def line(self) -> str:
        """The whole line."""
        return f"{self.bare()} > {word(self.output) if self.output else '/dev/null'}"

    def inner(self) -> Iterable[Statement]:
        """The commands."""
        return self.commands


def piped(*commands: Command, output: File | None = None) -> Pipe:
    """Commands, each of which reads the output of the one before it."""
    return Pipe(commands=commands, output=output)


class Equal(Test, frozen=True, kw_only=True):
    """Two words are equal or, with `differ`, are not."""

    one: Word
    other: Word
    differ: bool = False

    def line(self) -> str:
        """The shell's comparison."""
        return f"[ {word(self.one)} {'!=' if self.differ else '='} {word(self.other)} ]"


class Filled(Test, frozen=True, kw_only=True):
    """A file isn't empty or, with `empty`, is."""

    file: File
    empty: bool = False

    def line(self) -> str:
        """The shell's file test."""
        return f"[ {'! ' if self.empty else ''}-s {word(self.file)} ]"


class Either(Test, frozen=True, kw_only=True):
    """Any one of several tests succeeds or, with `together`, all of them."""

    tests: tuple[Test, ...]
    together: bool = False

    def line(self) -> str:
        """The tests as a group."""
        return "{ " + (" && " if self.together else " || ").join(test.line() for test in self.tests) + "; }"

    def inner(self) -> Iterable[Statement]:
        """The tests."""
        return self.tests


class Capture(Statement, frozen=True, kw_only=True):
    """A variable gets a command's output, without final newlines."""

    variable: str
    command: Command | Pipe

    def lines(self) -> Iterator[str]:
        """An assignment by itself: inside another statement the command's failure would be lost."""
        yield f'{self.variable}="$({self.command.bare()})"'

    def inner(self) -> Iterable[Statement]:
        """The command."""
        return (self.command,)


def capture(variable: str, command: Command | Pipe) -> Capture:
    """A variable gets a command's output."""
    return Capture(variable=variable, command=command)


class Put(Statement, frozen=True, kw_only=True):
    """A file gets words, each followed by `end`; a secret among them is not a process argument."""

    file: File
    words: tuple[Word, ...]
    end: str = ""

    def lines(self) -> Iterator[str]:
        """The shell's builtin printf."""
        form = text(f"%s{self.end}") if self.end.isprintable() else "'%s\\n'"
        yield f"printf {form} {' '.join(map(word, self.words)) or chr(39) * 2} > {word(self.file)}"


class Export(Statement, frozen=True, kw_only=True):
    """The programs that follow get a variable in their environment."""

    variable: str
    value: Word

    def lines(self) -> Iterator[str]:
        """One line."""
        yield f"export {self.variable}={word(self.value)}"


class Assign(Statement, frozen=True, kw_only=True):
    """A variable of the script gets a value."""

    variable: str
    value: Word

    def lines(self) -> Iterator[str]:
        """One line."""
        yield f"{self.variable}={word(self.value)}"


class Unset(Statement, frozen=True, kw_only=True):
    """The programs that follow don't get these variables in their environment."""

    variables: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """One line."""
        yield f"unset {' '.join(self.variables)}"


class Comment(Statement, frozen=True, kw_only=True):
    """A comment for whoever reads the script."""

    line: str

    def lines(self) -> Iterator[str]:
        """One line, whatever the text contains."""
        yield f"# {plain(self.line)}"


class Message(Statement, frozen=True, kw_only=True):
    """A message for whoever runs the script."""

    line: str

    def lines(self) -> Iterator[str]:
        """On standard error."""
        yield f"say {text(plain(self.line))}"


class Stop(Statement, frozen=True, kw_only=True):
    """The script ends with a reason."""

    why: str

    def lines(self) -> Iterator[str]:
        """On standard error, exit 1."""
        yield f"stop {text(plain(self.why))}"


class Must(Statement, frozen=True, kw_only=True):
    """A test succeeds, or the script ends with a reason."""

    test: Test
    otherwise: str

    def lines(self) -> Iterator[str]:
        """One line."""
        yield f"{self.test.line()} || stop {text(plain(self.otherwise))}"

    def inner(self) -> Iterable[Statement]:
        """The test."""
        return (self.test,)


def expect(one: Word, other: Word, otherwise: str) -> Must:
    """Two words are equal, or the script ends with a reason."""
    return Must(test=Equal(one=one, other=other), otherwise=otherwise)


class When(Statement, frozen=True, kw_only=True):
    """Statements if a test succeeds, and others if it fails."""

    test: Test
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()

    def lines(self) -> Iterator[str]:
        """An `if`."""
        yield f"if {self.test.line()}; then"
        yield from _block(self.then)
        if self.otherwise:
            yield "else"
            yield from _block(self.otherwise)
        yield "fi"

    def inner(self) -> Iterable[Statement]:
        """All of them."""
        return (self.test, *self.then, *self.otherwise)


class Each(Statement, frozen=True, kw_only=True):
    """Statements for each line of a file; `variable` has the line."""

    variable: str
    file: File
    statements: tuple[Statement, ...]

    def lines(self) -> Iterator[str]:
        """The lines come from a separate descriptor, so that no program in the loop reads them."""
        yield f"while IFS= read -r {self.variable} <&3; do"
        yield from _block(self.statements)
        yield f"done 3< {word(self.file)}"

    def inner(self) -> Iterable[Statement]:
        """The statements."""
        return self.statements


class Forever(Statement, frozen=True, kw_only=True):
    """Statements repeated until a test succeeds after them; after `seconds` the script ends with a reason."""

    statements: tuple[Statement, ...] = ()
    until: Test
    seconds: int
    every: int = 1
    otherwise: str

    def lines(self) -> Iterator[str]:
        """SECONDS is the shell's own timer."""
        yield f"deadline=$((SECONDS + {self.seconds:d}))"
        yield "while :; do"
        yield from _block(self.statements)
        yield f"  if {self.until.line()}; then break; fi"
        yield f'  [ "$SECONDS" -lt "$deadline" ] || stop {text(plain(self.otherwise))}'
        if self.every:
            yield f"  sleep {self.every:d}"
        yield "done"

    def inner(self) -> Iterable[Statement]:
        """The statements and the test."""
        return (*self.statements, self.until)


class Wanted(Statement, frozen=True, kw_only=True):
    """The script needs a variable from its caller."""

    need: Need

    def lines(self) -> Iterator[str]:
        """None: the script asks for it at the top, before anything is changed."""
        return iter(())

    def needs(self) -> Iterable[Need]:
        """The variable."""
        return (self.need,)


class Question(Statement, frozen=True, kw_only=True):
    """A person answers on the terminal. `variable` gets the answer; an answer that isn't in `accepted` ends the script."""

    line: str
    choices: tuple[str, ...] = ("done",)
    accepted: tuple[str, ...] = ()
    variable: str = "answer"

    def lines(self) -> Iterator[str]:
        """The prompt, then the check that may end the script."""
        yield f"question {text(plain(self.line))} {' '.join(map(text, self.choices))}"
        if self.variable != "answer":
            yield f'{self.variable}="$answer"'
        if self.accepted:
            yield (
                Must(
                    test=Either(tests=tuple(Equal(one=Variable("answer"), other=each) for each in self.accepted)),
                    otherwise=f"Stopped: {self.line}",
                )
                .lines()
                .__next__()
            )


def _block(statements: Iterable[Statement]) -> Iterator[str]:
    found = [f"  {line}" for statement in statements for line in statement.lines()]
    return iter(found or ["  :"])
