"""Contents that are pinned, standard input that a resume finds again, and what is kept aside."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from accesses import access

from opsctl.adapters.mail import notification_reader as notifications
from opsctl.adapters.mail import spool
from opsctl.adapters.mail.dead_letter import DeadLetterFile
from opsctl.adapters.mail.notification_reader import NotificationReader
from opsctl.adapters.mail.sns_signatures import SnsSignatures
from opsctl.errors import ConfigurationError, DriftError, InputRequired, ReadOnly
from opsctl.sandbox.aws import notifications as made
from opsctl.settings import BounceSettings

AT = 1_780_000_000.0
LINE = json.dumps(made.bounce("Permanent", "General", ["jane@example.com"], AT))


class Input(io.TextIOWrapper):
    def __init__(self, text: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(text))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "opsctl"


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda text, **how: monkeypatch.setattr(sys, "stdin", Input(text.encode(), **how))


def process() -> tuple[NotificationReader, NotificationReader]:
    """What one process holds: the reading and the writing set."""
    settings = BounceSettings()
    signatures = SnsSignatures(access(writing=False), None, lambda service: set(), lambda: datetime.now(UTC))
    rest = (settings, made.ACCOUNT, signatures, lambda: datetime.now(UTC))
    read = NotificationReader(access(writing=False), *rest)
    return read, NotificationReader(access(writing=True), *rest, read)


def rows(read: NotificationReader, *pinned: Any) -> int:
    return sum(len(batch.rows) for batch in read.batches(*pinned))


def kept(state: Path) -> list[str]:
    return sorted(path.name[:6] for path in state.glob("*"))


def test_a_file_is_pinned_by_its_content(tmp_path: Path, state: Path) -> None:
    read, _ = process()
    path = tmp_path / "bounces.jsonl"
    path.write_text(f"{LINE}\n")
    pinned = read.pin(str(path))
    assert (pinned.source, pinned.size) == (str(path), len(LINE) + 1)
    assert rows(read, pinned.source, pinned.digest, pinned.size) == 1
    path.write_text(f"{LINE}\n{LINE}\n")
    with pytest.raises(DriftError, match="has changed since the plan: its content has changed"):
        rows(read, pinned.source, pinned.digest, pinned.size)
    path.unlink()
    with pytest.raises(DriftError, match="has changed since the plan: it no longer exists"):
        rows(read, pinned.source, pinned.digest, pinned.size)
    with pytest.raises(ConfigurationError):
        read.pin(str(path))
    assert kept(state) == []


def test_standard_input_is_read_again_in_the_same_process_and_goes_with_it(state: Path, pipe: Callable[..., None]) -> None:
    pipe(f"{LINE}\n")
    read, write = process()
    pinned = read.pin("-")
    [path] = state.glob("*")
    assert (pinned.source, stat.S_IMODE(path.stat().st_mode)) == ("-", 0o600)
    for each in (read, write, read):
        assert rows(each, "-", pinned.digest, pinned.size) == 1
    write.keep(pinned.digest, until_resumed=True)
    read.keep(pinned.digest, until_resumed=False)
    read.close()
    assert kept(state) == []


def test_what_was_begun_is_there_for_a_resume_and_goes_when_it_is_done(state: Path, pipe: Callable[..., None]) -> None:
    pipe(f"{LINE}\n")
    read, write = process()
    pinned = read.pin("-")
    write.keep(pinned.digest, until_resumed=True)
    read.close()
    assert kept(state) == ["spool-"]
    pipe("")
    read, write = process()
    assert rows(read, "-", pinned.digest, pinned.size) == 1
    read.close()
    assert kept(state) == ["spool-"]
    read, write = process()
    assert rows(read, "-", pinned.digest, pinned.size) == 1
    read.keep(pinned.digest, until_resumed=False)
    read.close()
    assert kept(state) == []


def test_what_was_not_kept_is_given_again(state: Path, pipe: Callable[..., None]) -> None:
    pipe(f"{LINE}\n")
    read, _ = process()
    pinned = read.pin("-")
    read.close()
    for text, error in (("", InputRequired), ("another\n", DriftError)):
        read, _ = process()
        pipe(text)
        with pytest.raises(error):
            rows(read, "-", pinned.digest, pinned.size)
        read.close()
    read, _ = process()
    pipe(f"{LINE}\n")
    assert rows(read, "-", pinned.digest, pinned.size) == 1
    pipe("", terminal=True)
    with pytest.raises(InputRequired):
        process()[0].pin("-")


def test_what_nobody_took_up_goes_after_a_week(state: Path, pipe: Callable[..., None]) -> None:
    state.mkdir(parents=True)
    old, young = state / "spool-old", state / "spool-young"
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - spool.WEEK - 60,) * 2)
    pipe(LINE)
    process()[0].pin("-")
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("indent", [None, 4])
def test_what_receive_message_prints_is_read_message_by_message(tmp_path: Path, state: Path, indent: int | None) -> None:
    read, _ = process()
    path = tmp_path / "received.json"
    path.write_text(
        json.dumps({"Messages": [{"MessageId": str(n), "Body": body} for n, body in enumerate([LINE, "broken", LINE])]}, indent=indent)
    )
    pinned = read.pin(str(path))
    [batch] = read.batches(pinned.source, pinned.digest, pinned.size)
    assert (batch.read, len(batch.rows), len(batch.bad)) == (3, 2, 1)
    path.write_text('{"Messages": []}\n{"Messages": 7}\n')
    pinned = read.pin(str(path))
    [batch] = read.batches(pinned.source, pinned.digest, pinned.size)
    assert (batch.read, len(batch.bad)) == (2, 2)


def test_a_pipe_by_name_is_read_once_and_kept(tmp_path: Path, state: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, LINE.encode())
    os.close(writing)
    read, _ = process()
    pinned = read.pin(f"/dev/fd/{reading}")
    os.close(reading)
    assert pinned.source == "-"
    assert rows(read, "-", pinned.digest, pinned.size) == 1
    read.close()


def test_what_cant_be_read_is_kept_once_with_its_reason(tmp_path: Path) -> None:
    aside = tmp_path / "aside.jsonl"
    asides = DeadLetterFile(aside)
    assert asides.add([]) == 0
    assert not aside.exists()
    assert asides.add([(b"{", "broken"), (b"\xff\xfe", "no text"), (b"{", "broken")]) == 2
    with aside.open("a") as file:
        file.write('{"digest": "cut sh')
    again = DeadLetterFile(aside)
    assert again.add([(b"{", "broken"), (b"more", "not JSON")]) == 1
    lines = [json.loads(line) for line in aside.read_text().splitlines() if not line.endswith("cut sh")]
    assert [(line["reason"], line["Body"]) for line in lines] == [("broken", "{"), ("no text", "\ufffd\ufffd"), ("not JSON", "more")]
    assert base64.b64decode(lines[1]["Base64"]) == b"\xff\xfe"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_a_line_that_was_mended_counts(tmp_path: Path, state: Path) -> None:
    read, write = process()
    aside = tmp_path / "aside.jsonl"
    [batch] = read.batched([LINE[:-1].encode(), b"{}"])
    with pytest.raises(ReadOnly):
        read.put_aside(str(aside), batch)
    assert len(read.unkept(str(aside), batch)) == 2
    assert write.put_aside(str(aside), batch) == 2
    assert read.unkept(str(aside), batch) == set()
    mended = [json.loads(line) for line in aside.read_text().splitlines()]
    mended[0]["Body"] += "}"
    aside.write_text("".join(f"{json.dumps(line)}\n" for line in mended))
    pinned = read.pin(str(aside))
    [batch] = read.batches(pinned.source, pinned.digest, pinned.size)
    assert (len(batch.rows), len(batch.bad)) == (1, 1)


def test_a_file_that_cant_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="can't be written to"):
        DeadLetterFile(tmp_path / "link").add([(b"{", "broken")])


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device", "notes", "notes that begin like ours"])
def test_what_is_no_file_of_ours_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    """A pipe has nobody at its other end, and must not be waited for."""
    path, notes = tmp_path / "aside", "Call the provider.\n"
    if kind == "a folder":
        path.mkdir(mode=0o755)
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        if os.geteuid():
            pytest.skip("only root makes one")
        os.mknod(path, 0o644 | stat.S_IFCHR, os.makedev(1, 3))
    else:
        path.write_text(notes if kind == "notes" else f'{{"digest": 1}}\n{notes}')
    path.chmod(0o644)
    for work in (lambda: DeadLetterFile(path).known, lambda: DeadLetterFile(path).add([(b"{", "broken")])):
        with pytest.raises(ConfigurationError, match="can't be written to"):
            work()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not path.is_file() or path.read_text().endswith(notes)


def test_a_file_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "aside"
    path.touch(0o640)
    assert DeadLetterFile(path).add([(b"{", "broken")]) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_batch_is_no_larger_than_a_statement_takes() -> None:
    read, _ = process()
    batches = list(read.batched([LINE.encode()] * 5_000 + [b"x" * 900_000] * 10))
    assert sum(len(batch.rows) for batch in batches) == 5_000
    assert max(len(batch.rows) for batch in batches) <= notifications.ROWS
    assert sum(len(batch.bad) for batch in batches) == 10
    assert max(sum(len(raw) for raw, _ in batch.bad) for batch in batches) < 5_000_000
