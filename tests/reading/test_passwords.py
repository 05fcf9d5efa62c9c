from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.reading import passwords
from pipeline.texts import matches

NAME = st.text(st.sampled_from("ab/.*?[]é"), min_size=1, max_size=6)


@example(listed=[("a/", "of what is in the folder")], source="a")
@given(listed=st.lists(st.tuples(st.one_of(NAME, st.just("")), st.text(max_size=2)), max_size=8), source=NAME)
def test_the_first_pattern_that_names_a_document_gives_its_password(
    listed: list[tuple[str, str]], source: str
) -> None:
    expected = next((secret for pattern, secret in listed if matches(source, pattern)), "default")
    assert passwords.Passwords(listed, "default").of(source) == expected


def test_a_password_for_each_of_many_documents_is_found_without_trying_every_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passwords.csv"
    file.write_text("document,password\n" + "".join(f"{n:05}.pdf,secret {n}\n" for n in range(40_000)))
    known = passwords.read(str(file), None)
    monkeypatch.setattr(passwords, "matches", lambda *_: pytest.fail("a pattern was tried"))
    assert [known.of(f"{n:05}.pdf") for n in (0, 39_999)] == ["secret 0", "secret 39999"]
    assert known.of("other.pdf") is None


@pytest.mark.parametrize("content", ["password,document\nx,a\nsecret\n", "document,password\na,x\na.pdf\n"])
def test_a_line_of_passwords_that_ends_early_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "passwords.csv"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"raster\.passwords=.*line 3 lacks a document or its password"):
        passwords.read(str(file), None)


@pytest.mark.parametrize("content", [b"name,secret\na,b\n", b"document,password\n\xff\xfe,x\n"])
def test_a_file_that_is_no_list_of_passwords_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "passwords.csv"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"raster\.passwords=.*needs the columns document and password"):
        passwords.read(str(file), None)
