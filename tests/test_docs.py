"""The pages that users look things up in name everything that they can meet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import errors
from pipeline.tables import changes, columns, dictionary, evaluation, reviews
from pipeline.viewing.remedies import REMEDIES

ROOT = Path(__file__).parents[1]


def named_in(page: str) -> set[str]:
    return set(re.findall(r"\w+", (ROOT / "docs" / page).read_text(encoding="utf-8")))


def error_codes() -> set[str]:
    """Return every code that the package gives to a row: those of its errors, and those it writes itself."""
    codes = {kind.code for kind in vars(errors).values() if hasattr(kind, "code")}
    for file in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            codes |= {each.value for each in _code(node) if isinstance(each.value, str)}
    return codes


def _code(node: ast.AST) -> Iterator[ast.Constant]:
    """Yield what stands where a code does: in `Failure(code, …)`, `_failed(…, code, …)` and rows."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        places = {"Failure": node.args[:1], "_failed": node.args[:-1]}.get(node.func.id, [])
    elif isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        places = [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == "error_code"]
    else:
        places = []
    yield from (place for place in places if isinstance(place, ast.Constant))


def test_every_error_code_is_explained() -> None:
    codes = error_codes()
    assert {"encrypted", "unsupported", "schema_invalid", "too_long", "engine_failed"} <= codes
    assert not codes - named_in("errors.md"), "say in docs/errors.md what these mean and what to do"


def test_every_error_code_has_a_remedy_in_the_report() -> None:
    assert set(REMEDIES) == error_codes()
    rows = re.findall(
        r"^\| `(\w+)` \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(REMEDIES) == set(rows) & error_codes()


def test_the_page_of_columns_is_what_the_schemas_are() -> None:
    written = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    assert written == dictionary.to_markdown(), "run `make columns`"


@pytest.mark.parametrize("name", dictionary.TABLES)
def test_every_column_is_explained_with_an_example_of_its_type(name: str) -> None:
    table = dictionary.TABLES[name]
    assert list(table.about) and set(table.about) == set(table.schema.names)
    for field in table.schema:
        about = table.about[field.name]
        assert about.meaning and about.example is not None, field.name
        if pa.types.is_timestamp(field.type):
            assert about.unit == "UTC" and isinstance(about.example, str)
        elif not pa.types.is_binary(field.type):
            pa.scalar(about.example, field.type)  # raises for an example of another type


def test_every_schema_of_a_table_is_described() -> None:
    homes = (
        columns.ANSWERS,
        columns.DOCUMENTS,
        columns.REQUESTS,
        columns.PLAN,
        reviews.REVIEWS,
        changes.CHANGES,
        evaluation.JUDGED,
        evaluation.SCORES,
        evaluation.HISTORY,
    )
    described = [table.schema for table in dictionary.TABLES.values()]
    assert len(described) == len(homes) and all(schema in described for schema in homes)


DOCUMENT_ERRORS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.DocumentError)
}


def messages() -> Iterator[tuple[str, str]]:
    """Yield where the text of an error row is written, and the text, a mark for each value in it."""
    for file in sorted((ROOT / "pipeline").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"Failure": 1}.get(node.func.id, 0 if node.func.id in DOCUMENT_ERRORS else None)
                if (
                    place is not None
                    and len(node.args) > place
                    and isinstance(node.args[place], ast.JoinedStr)
                ):
                    parts = node.args[place]
                    assert isinstance(parts, ast.JoinedStr)
                    written = (p.value if isinstance(p, ast.Constant) else "{}" for p in parts.values)
                    yield f"{file.name}:{node.lineno}", "".join(map(str, written))


def test_the_text_of_every_error_row_says_what_to_do() -> None:
    # One that ends in a value has been written elsewhere, and is found there.
    whole = [(place, text) for place, text in messages() if not text.endswith("{}")]
    assert len(whole) >= 20
    assert not [(place, text) for place, text in whole if not re.search(r"; \w+ ?\w*", text)]
