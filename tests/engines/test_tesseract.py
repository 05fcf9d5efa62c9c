"""Scripts that the bundled OCR does not know. Tesseract, which a machine may lack, is played by a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipeline.engines.embedded import tesseract
from pipeline.engines.embedded.lines import Line

TSV = "level\tleft\ttop\twidth\theight\tconf\ttext\n" + "".join(
    f"5\t{left}\t20\t100\t40\t{conf}\t{text}\n"
    for left, conf, text in ((20, 96, "Краткая"), (140, 94, "история"), (20, -1, ""))
)
PAGE = [Line("Kp ..", (5.0, 5.0, 150.0, 35.0), 0.55), Line("Debian 1.1", (5.0, 40.0, 90.0, 60.0), 0.99)]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    tesseract._languages.cache_clear()
    yield
    tesseract._languages.cache_clear()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, languages: str) -> None:
    (folder / "table").write_text(TSV, encoding="utf-8")
    program = folder / "tesseract"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *list-langs*) printf "{languages}";;'
        f' *"--psm 0"*) printf "Script: {script}\\n";; *) /bin/cat {folder}/table;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def read(lines: list[Line] = PAGE) -> list[str]:
    return [line.text for line in tesseract.corrected(lines, Image.new("RGB", (160, 80), "white"))]


def test_lines_that_were_hardly_read_are_read_in_the_script_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "Cyrillic", "eng\\nosd\\nrus\\n")
    assert read() == ["Краткая история", "Debian 1.1"]


def test_a_line_read_as_spaces_counts_as_hardly_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "Cyrillic", "osd\\nrus\\n")
    assert read([PAGE[0]._replace(text="   ,  .", score=0.97), PAGE[1]])[0] == "Краткая история"


@pytest.mark.parametrize(
    ("script", "languages"),
    [("Latin", "eng\\nosd\\nrus\\n"), ("Cyrillic", "eng\\nosd\\n"), ("Cyrillic", "rus\\n")],
    ids=["another script", "no such language", "scripts cannot be told apart"],
)
def test_lines_stay_as_they_are_where_tesseract_cannot_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, languages: str
) -> None:
    install(tmp_path, monkeypatch, script, languages)
    assert read() == [line.text for line in PAGE]


def test_without_tesseract_lines_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read() == [line.text for line in PAGE]
