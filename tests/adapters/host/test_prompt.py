"""What a person is asked on a terminal obeys nobody else."""

from __future__ import annotations

import os
import pty

import pytest

from opsctl.adapters.host.prompt import Prompt
from opsctl.files import readable
from opsctl.redaction import vault

SECRET = "pat-na1-7f3a9c51-e0d8-4b26-a5c1-f09e3d7b6482"


def test_a_question_obeys_nobody_and_forges_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    vault.remember(SECRET.encode())
    master, slave = pty.openpty()
    # What is typed before the question is thrown away; here it is typed by then.
    monkeypatch.setattr("termios.tcflush", lambda *_: os.write(master, b"x\nyes\n"))
    person = Prompt(path=os.ttyname(slave))
    assert person.choose(f"Sure? \x1b[2J\x9b\u202e {SECRET}\nforged", ["yes", "no"], "") == "yes"
    said = ""
    while readable([master]):
        said += os.read(master, 65_536).decode()
    os.close(master)
    os.close(slave)
    assert r"Sure? \x1b[2J\x9b\u202e [secret]\nforged [yes/no]: " in said
    assert "'x' is not an answer; type yes or no.\r\nSure?" in said
    assert not any(each in said for each in ("\x1b", "\x9b", "\u202e", SECRET[:12]))
