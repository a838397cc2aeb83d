"""docs/reference.md: the command tree, exit codes, JSON shapes, variables and settings as Markdown.

Only `make docs`, through cog, and tests call this module.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import click

from opsctl.errors import OpsctlError

WIDTH = 120

EXIT = {
    0: "done, or nothing to do",
    1: "failed or partly done; anything half done is recorded",
    2: "wrong usage or configuration",
    3: "a dry run or audit found something to change, or an alert fires",
    4: "refused: a guard, a stale plan, the wrong place, a missing approval",
    5: "another run holds the lock: who, since when, doing what",
    6: "interrupted, or an outcome is unknown: `opsctl runs resume ID`",
    7: "waiting for a person",
}
"""What each exit code of the process means."""


def leaves(root: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Every command that can be run, as its words (`service scale`) and itself, in the order of --help."""
    yield from _leaves(root, click.Context(root, info_name="opsctl"), ())


def _leaves(group: click.Group, ctx: click.Context, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from _leaves(command, click.Context(command, info_name=name, parent=ctx), (*words, name))
        elif command is not None:
            yield " ".join((*words, name)), command


def anchor(words: str) -> str:
    """`service scale` -> `service-scale`."""
    return words.replace(" ", "-")


def block(root: click.Group, words: str, shared: Collection[str]) -> str:
    """One command: its usage, its help and its own options; where it has all that `shared` names, those are only mentioned."""
    command = dict(leaves(root))[words]
    ctx = click.Context(command, info_name=words)
    formatter = click.HelpFormatter(width=WIDTH, max_width=WIDTH)
    formatter.write_usage(f"opsctl {words}", " ".join(command.collect_usage_pieces(ctx)))
    command.format_help_text(ctx, formatter)
    changing = {p.name for p in command.params}.issuperset(shared)
    own = _options(ctx, [p for p in command.params if not (changing and p.name in shared)])
    if own:
        with formatter.section("Options"):
            formatter.write_dl(own)
    if changing:
        formatter.write_paragraph()
        formatter.write_text("It also takes the options of every changing command.")
    return f"```text\n{formatter.getvalue().rstrip()}\n```"


def options(parameters: Sequence[click.Parameter]) -> str:
    """Options as a table."""
    rows = _options(click.Context(click.Command("opsctl")), parameters)
    return table(("option", "meaning"), [(f"`{name}`", text) for name, text in rows])


def _options(ctx: click.Context, parameters: Sequence[click.Parameter]) -> list[tuple[str, str]]:
    return [record for p in parameters if isinstance(p, click.Option) and (record := p.get_help_record(ctx))]


def commands(root: click.Group, shared: Collection[str]) -> str:
    """Every command under its anchor: usage, help, own options and examples; a heading for each group."""
    parts, group = [], ""
    for words, _ in leaves(root):
        if (first := words.split()[0]) != group:
            group = first
            parts.append(f"### {group}")
        parts.append(f'<a id="{anchor(words)}"></a>\n\n{block(root, words, shared)}')
    return "\n\n".join(parts)


def index(root: click.Group) -> str:
    """Every command with its first line of help, linked to its anchor."""
    rows = [(f"[`{words}`](#{anchor(words)})", command.get_short_help_str(200)) for words, command in leaves(root)]
    return table(("command", "what it does"), rows)


VERDICTS = {
    "alarms check": ("0 every alert was computed and none fires", "3 an alert fires; 1 none fires, but at least one is unknown"),
    "auth verify": ("0 every check that applies passed", "1 a check failed, or the test user's credentials can't be read"),
    "client doctor": ("0 every check that applies passed", "1 a check failed"),
    "lease verify": (
        "0 the endpoint answered as expected (200, or `--expect`)",
        "1 any other answer, or a 403 that the log doesn't confirm",
    ),
    "playbook lint": ("0 every playbook is valid", "1 at least one line is wrong; each is listed"),
    "runs verify": ("0 every entry of the ledger verifies", "1 an entry was changed, removed or reordered"),
    "secrets verify": ("0 every check that applies passed", "1 a check failed, or nothing could be queried"),
    "service status --healthy": ("0 every service is healthy", "1 a service is not healthy, or could not be queried"),
}
"""For each command that gives a verdict: when it ends 0, and what else it returns."""


def verdicts() -> str:
    """What each command that gives a verdict returns; then dry runs and playbooks, which give one too."""
    rows = [(f"[`{words}`](#{anchor(words.partition(' --')[0])})", *texts) for words, texts in VERDICTS.items()]
    rows += [
        ("a dry run (`-n`)", "0 nothing to change", "3 something would change; 4 a safety check refuses it"),
        (
            "[`playbook run -n`](#playbook-run)",
            "0 nothing to change, and every `verify` passes now",
            "3 something would change, or a `verify` fails now; 1 a step could not be planned or queried",
        ),
        (
            "[`playbook run`](#playbook-run)",
            "0 every step is done and every `verify` passed",
            "1 a `verify` failed, a step failed or was skipped, or a `look` saw nothing; 7 a question waits",
        ),
        ("[`status`](#status) and other views", "0 the page was shown, whatever it shows", "1 nothing at all could be queried"),
    ]
    return table(("command", "exit 0", "otherwise"), rows)


VARIABLES = {
    "OPSCTL_ENV": "The environment, if the line has no `--env`.",
    "OPSCTL_CONFIG": "The folder of the environments' files, if the line has no `--config`.",
    "OPSCTL_SANDBOX": "The folder of the sandbox.",
    "OPSCTL_TEMPO": "Sandbox only: a factor for waiting times; 0 means no waiting. Ignored elsewhere.",
    "XDG_CONFIG_HOME": "Where your own files are: `$XDG_CONFIG_HOME/opsctl` (default `~/.config/opsctl`).",
    "XDG_STATE_HOME": "Where the ledger is: `$XDG_STATE_HOME/opsctl` (default `~/.local/state/opsctl`).",
    "HH_CONFIG": "Commands of the group `client` only: the hh client's configuration file, as hh itself reads it.",
    "DOCKER_CONFIG": "Commands of the group `client` only: the folder of docker's configuration, as docker reads it.",
    "DOCKER_HOST": "Commands of the group `client` only: where docker listens, as docker reads it.",
    "NO_COLOR": "No colour, if it is set.",
    "FORCE_COLOR": "Colour also where the output is no terminal. `CLICOLOR_FORCE` means the same; `NO_COLOR` comes first.",
    "CLICOLOR": "`0` means no colour.",
    "TERM": "`dumb` means no colour and no redrawn lines.",
    "AWS_PROFILE, AWS_ACCESS_KEY_ID ...": "Your AWS login. Variables that name an endpoint, a proxy or a file of authorities are ignored.",
}
"""Every environment variable that opsctl itself reads by name, and what it is for."""


def variables() -> str:
    """The environment variables that opsctl reads, as a table."""
    return table(("variable", "meaning"), [(f"`{name}`", text) for name, text in VARIABLES.items()])


def settings() -> str:
    """Every key of an environment's file under its table."""
    from opsctl.settings.reference import tables

    parts = []
    for each in tables():
        name = each.header or "Top of the file"
        rows = [(f"`{key.name}`", key.type, _default(key.default), key.description) for key in each.keys]
        parts.append(
            f"### {name}\n\n{each.description}\n\n{table(('key', 'type', 'default', 'meaning'), [map(_cell, row) for row in rows])}"
        )
    return "\n\n".join(parts)


def _default(value: str) -> str:
    return value if value in ("", "required") else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def exit_codes() -> str:
    """The exit codes, with the errors that end in each."""
    kinds: dict[int, list[str]] = {}
    for kind in errors():
        kinds.setdefault(kind.exit_code, []).append(_spaced(kind.__name__))
    return table(("exit", "meaning", "errors"), [(str(code), text, ", ".join(kinds.get(code, []))) for code, text in EXIT.items()])


def errors(base: type[OpsctlError] = OpsctlError) -> Iterator[type[OpsctlError]]:
    """Every error but the base, from the general to the special."""
    for kind in base.__subclasses__():
        if kind.__module__ == OpsctlError.__module__:
            yield kind
            yield from errors(kind)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Error")).lower()


def table(head: Sequence[str], rows: Sequence[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
