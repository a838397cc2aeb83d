"""Safe files: what is read is a regular file of bounded size, what is written is new, private and never behind a link."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from opsctl import files


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD = {"a directory": a_folder, "a pipe": a_pipe, "a socket": a_socket, "a device": a_link_to_a_device}


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path short enough for a socket."""
    monkeypatch.chdir(tmp_path)
    return Path("odd")


@pytest.mark.parametrize("name", ODD)
def test_only_a_regular_file_is_read(odd: Path, name: str) -> None:
    ODD[name](odd)
    with pytest.raises(OSError, match=f"it is {name}, not a regular file"):
        files.read(odd)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("replaces", [None, lambda content: True], ids=["new", "forced"])
def test_nothing_but_a_file_is_ever_replaced(odd: Path, name: str, replaces: Callable[[bytes], bool] | None) -> None:
    ODD[name](odd)
    before = odd.lstat()
    with pytest.raises(OSError, match="not a regular file"):
        files.write(odd, b"new", replaces=replaces)
    assert odd.lstat() == before
    assert os.listdir() == ["odd"]


def test_a_shells_pipe_is_read_where_it_is_allowed(odd: Path) -> None:
    os.mkfifo(odd)
    threading.Thread(target=odd.write_bytes, args=(b"value",), daemon=True).start()
    assert files.read(odd, pipes=True) == b"value"


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_file_within_the_bound_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert files.read(path, 10) == b"x" * size


def test_a_file_above_the_bound_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(files.Unfit, match="more than 1,048,576 bytes"):
        files.read(path)


def test_an_endless_pipe_is_not_read_to_its_end(odd: Path) -> None:
    os.mkfifo(odd)

    def pour() -> None:
        with odd.open("wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
            while True:
                file.write(b"x" * 4096)

    source = threading.Thread(target=pour, daemon=True)
    source.start()
    with pytest.raises(files.Unfit, match="more than 100 bytes"):
        files.read(odd, 100, pipes=True)
    source.join(30)
    assert not source.is_alive()


def test_a_file_that_says_it_is_empty_is_bounded_too() -> None:
    """Files of /proc have a size of 0."""
    with pytest.raises(files.Unfit, match="more than 10 bytes"):
        files.read(Path("/proc/self/status"), 10)


def test_a_new_file_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new"
    files.write(path, b"content")
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("content", [b"", b"other", b"content"])
def test_a_file_that_is_there_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "there"
    path.write_bytes(content)
    with pytest.raises(files.Unfit, match="there is a file already"):
        files.write(path, b"new")
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["there"]


@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing"])
def test_a_link_is_never_followed(tmp_path: Path, there: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(target)
    for replaces in (None, lambda content: True):
        with pytest.raises(files.Unfit, match="it is a link"):
            files.write(link, b"new", replaces=replaces)
    assert link.is_symlink()
    assert target.exists() == there
    assert not there or target.read_bytes() == b"old"


def test_only_the_same_kind_of_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_bytes(b"a plan")
    path.chmod(0o644)
    files.write(path, b"a newer plan", replaces=lambda content: content == b"a plan")
    assert path.read_bytes() == b"a newer plan"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(files.Unfit, match="holds something else"):
        files.write(path, b"a plan", replaces=lambda content: content == b"a plan")
    assert path.read_bytes() == b"a newer plan"


def test_a_file_of_two_names_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_bytes(b"old")
    os.link(path, tmp_path / "other")
    with pytest.raises(files.Unfit, match="2 names"):
        files.write(path, b"new", replaces=lambda content: True)
    assert path.read_bytes() == b"old"


def test_a_file_of_another_user_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "there"
    path.write_bytes(b"old")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(files.Unfit, match="belongs to another user"):
        files.write(path, b"new", replaces=lambda content: True)
    assert path.read_bytes() == b"old"


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "raced"
    real = os.link

    def late(*words: object, **more: object) -> None:
        path.write_bytes(b"theirs")
        real(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(files.Unfit, match="there is a file already"):
        files.write(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["raced"]


def test_a_file_system_without_hard_links_is_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    files.write(tmp_path / "new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("mode", [0o666, 0o640, 0o604, 0o620])
def test_a_private_file_lets_nobody_else_in(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ledger"
    files.private(path)
    path.touch(0o600)
    files.private(path)
    path.chmod(mode)
    with pytest.raises(files.Unfit, match=f"{mode:04o}"):
        files.private(path)
