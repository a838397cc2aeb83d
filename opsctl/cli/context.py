"""The context of one invocation: environment, read-only and writing systems, ledger and engine, each created when first needed."""

from __future__ import annotations

import math
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opsctl.errors import ConfigurationError, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opsctl.adapters.host.prompt import Prompt
    from opsctl.adapters.host.secret_sources import SecretSources
    from opsctl.config import Environment
    from opsctl.engine.engine import Engine
    from opsctl.engine.history import LedgerHistory
    from opsctl.engine.ledger.keys import Keyring
    from opsctl.engine.ledger.ledger import Ledger
    from opsctl.engine.reporter import Reporter
    from opsctl.render.screen import Screen
    from opsctl.systems import Systems

LOCAL = "local"
"""The built-in environment of this machine, without AWS and without a file."""


class AppContext:
    """The context of one command line. Use it as a context manager, so that connections are closed."""

    def __init__(self, *, name: str | None = None, output: str = "table", verbose: bool = False, folder: str | None = None) -> None:
        self.name, self.output, self.verbose, self.folder = name, output, verbose, folder
        self.given: dict[str, Any] = {}
        """The global options given on the command line, by field."""
        self.only_looks = False
        """Whether this invocation only reads, so that it can continue when the ledger can't be written or read."""

    def __enter__(self) -> AppContext:
        return self

    def __exit__(self, *error: object) -> None:
        for part in ("read", "write", "ledger"):
            if part in self.__dict__:
                self.__dict__[part].shut()

    @cached_property
    def environment(self) -> Environment:
        """The environment of --env or OPSCTL_ENV. Raises ConfigurationError if neither is set."""
        from opsctl import config

        if not self.name:
            known = ", ".join(config.names(self.folder)) or "none"
            raise ConfigurationError("No environment was given.", f"Choose one with --env NAME or OPSCTL_ENV=NAME. Environments: {known}.")
        return config.local() if self.name == LOCAL else config.load(self.name, self.folder)

    @property
    def env_given(self) -> bool:
        """Whether the command line names the environment."""
        return "name" in self.given

    @property
    def place(self) -> str:
        """The environment and its file, for display. Empty before the file is read, and for the local environment."""
        found: Environment | None = self.__dict__.get("environment")
        return f"in {found.name}, configured by {found.path}" if found and found.name != LOCAL else ""

    def use_environment(self, name: str) -> None:
        """Use the environment of a command, run or plan, if none was given; the local environment always."""
        if not self.name or name == LOCAL:
            self.name = name

    @cached_property
    def person(self) -> Prompt:
        """The prompt on the terminal."""
        from opsctl.adapters.host.prompt import Prompt

        return Prompt(ahead=lambda: self.reporter.close())

    @cached_property
    def values(self) -> SecretSources:
        """The sources of secret values."""
        from opsctl.adapters.host.secret_sources import SecretSources

        return SecretSources()

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of all environments."""
        return self._ledger(without=True) if self.only_looks else self._ledger()

    def _ledger(self, *, tell: Callable[[str], None] | None = None, without: bool = False) -> Ledger:
        from opsctl.changes import find_kind
        from opsctl.engine.ledger.ledger import open_ledger

        tell = self.reporter.message if without else tell
        return open_ledger(self.ledger_path, find_kind, tell=tell, without=without, warn=lambda told: self.reporter.message(told))

    @property
    def ledger_path(self) -> Path:
        """The file that holds the ledger."""
        from opsctl.config import state_folder

        return state_folder() / "ledger.db"

    @cached_property
    def keyring(self) -> Keyring:
        """The keys beside the ledger, with which plans are signed."""
        from opsctl.engine.ledger.keys import Keyring

        return Keyring(self.ledger_path.parent)

    @property
    def readable_ledger(self) -> Ledger:
        """The ledger for display. A ledger that can't be written is opened read-only."""
        if "ledger" not in self.__dict__:
            self.__dict__["ledger"] = self._ledger(tell=self.reporter.message)
        ledger: Ledger = self.__dict__["ledger"]
        return ledger

    def fingerprint(self, value: bytes) -> str:
        """The fingerprint of a value, keyed by this environment's key in the ledger."""
        from opsctl import fingerprints

        return fingerprints.of(self.ledger.key(self.environment.name), value)

    @cached_property
    def history(self) -> LedgerHistory:
        """The run history of this environment."""
        from opsctl.engine.history import LedgerHistory

        return LedgerHistory(lambda: self.ledger, self.environment)

    def _systems(self, *, read_twin: Systems | None = None) -> Systems:
        from opsctl.systems import Systems

        return Systems(
            self.environment,
            writing=read_twin is not None,
            person=self.person,
            values=self.values,
            history=self.history,
            fingerprint=self.fingerprint,
            read_twin=read_twin,
        )

    @cached_property
    def read(self) -> Systems:
        """The read-only systems."""
        return self._systems()

    @cached_property
    def write(self) -> Systems:
        """The writing systems. Only a change's `apply` gets them."""
        return self._systems(read_twin=self.read)

    @cached_property
    def screen(self) -> Screen:
        """The screen for results."""
        from opsctl.render.screen import Screen

        return Screen(self.output)

    @cached_property
    def reporter(self) -> Reporter:
        """The progress display on standard error."""
        from opsctl.render.progress import Progress

        return Progress()

    @property
    def operator(self) -> str:
        """The user and host."""
        from opsctl.adapters.host.machine import operator

        return operator()

    @cached_property
    def engine(self) -> Engine:
        """The engine of this environment."""
        from opsctl.engine.engine import Engine

        tempo = _tempo(os.environ.get("OPSCTL_TEMPO", "1")) if self.environment.settings.sandbox else 1.0
        return Engine(self.environment, self.ledger, self.read, self.write, self.reporter, self.operator, tempo)

    @property
    def has_begun(self) -> bool:
        """Whether a run was begun, so that something may have been changed."""
        engine: Engine | None = self.__dict__.get("engine")
        return engine is not None and engine.begun

    def assume_answers(self) -> None:
        """Answer checklist questions automatically. Raises Refused outside the sandbox."""
        if not self.environment.settings.sandbox:
            raise Refused("--assume-answers works only in the sandbox; this environment is real.", "Answer in a terminal.")
        self.person.assume = True

    def show(self, what: Any) -> None:
        """Print a command's result. Raises CheckFailed for a failed verdict."""
        self.screen.show(what)


def _tempo(given: str) -> float:
    """The factor for the pauses between two checks. Raises ConfigurationError unless it is a number of at least 0."""
    try:
        tempo = float(given)
    except ValueError:
        tempo = math.nan
    if not 0 <= tempo < math.inf:
        raise ConfigurationError(f"OPSCTL_TEMPO is {given!r}, which is not a number of at least 0; nothing was run.", "unset OPSCTL_TEMPO")
    return tempo
