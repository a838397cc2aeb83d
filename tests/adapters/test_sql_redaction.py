"""A query is shown without its literals, however it is written and wherever PostgreSQL has cut it off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.adapters.sql_redaction import brief, redact_literals

MARK = "Ω7"
"""Stands in every literal and nowhere else."""

inner = st.text(alphabet=f"{MARK} abc;,()?%$*/-\n", max_size=12).map(lambda text: MARK + text + MARK)
plain = inner.map(lambda text: f"'{text}'")
doubled = inner.map(lambda text: f"'{text}''{text}'")
escaped = inner.map(lambda text: f"E'{text}\\'{text}\\\\'")
prefixed = st.builds("{}'{}'".format, st.sampled_from(["b", "X", "n", "U&"]), inner)
dollars = st.builds("${0}${1}${0}$".format, st.sampled_from(["", "tag", "_a1"]), inner.map(lambda text: text.replace("$", "")))
numbers = st.sampled_from(["7", "77.7", ".7", "7e-7", "7E+7", "0x7F7", "7_777"])
comment = inner.map(lambda text: text.replace("*", "").replace("/", "").replace("\n", ""))
comments = st.one_of(comment.map("-- {}\n".format), comment.map("/* {} */".format), comment.map("/* a /* {0} */ {0} */".format))
literals = st.one_of(plain, doubled, escaped, prefixed, dollars, numbers, comments)
WORDS = ["SELECT", "email", '"odd ""name"', "users2", "a.b", "$1", "(", ")", ",", "=", "||", "::text", "été"]
words = st.sampled_from(WORDS)
queries = st.lists(st.one_of(words, literals), max_size=12)


@given(queries)
def test_no_literal_is_left_and_every_word_is(parts):
    shown = redact_literals(" ".join(parts))
    assert not set(shown) & set(MARK)
    assert shown.replace("?", "").split() == [word for part in parts if part in WORDS for word in part.split()]


@given(queries, st.data())
def test_where_it_is_cut_off_no_literal_shows_either(parts, data):
    text = " ".join(parts)
    cut = text[: data.draw(st.integers(0, len(text)))]
    assert not set(redact_literals(cut)) & set(MARK)


@given(st.text(alphabet="aE'\"\\$/*-7 \n;?", max_size=40))
def test_whatever_is_written_it_is_one_line_and_stays_as_it_is(text):
    shown = redact_literals(text)
    assert "\n" not in shown
    assert redact_literals(shown) == shown
    assert len(brief(text, 20)) <= 20


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT * FROM users WHERE email = 'o''hara@example.com' LIMIT 10", "SELECT * FROM users WHERE email = ? LIMIT ?"),
        ("SELECT $1, $2::int", "SELECT $1, $2::int"),
        ("CALL f($body$ it's $1 $body$)", "CALL f(?)"),
        ('SELECT "user\'s", t1.c2 FROM t1', 'SELECT "user\'s", t1.c2 FROM t1'),
        ("SELECT 1 /* for jo@example.com */ + 2 -- and jo", "SELECT ? + ?"),
        ("UPDATE users SET note = 'cut off in the mid", "UPDATE users SET note = ?"),
        ("SELECT 'C:\\' , 'jo@example.com'", "SELECT ?..."),
        ("SELECT 'it\\'s jo''s', 'jo@example.com'", "SELECT ?..."),
        ("SELECT E'it\\'s jo''s', E'cut off\\", "SELECT ?, ?"),
        ('SELECT "cut off', "SELECT ?..."),
        ("", ""),
    ],
)
def test_for_example(query, shown):
    assert redact_literals(query) == shown
