"""Measure the shape of the code: `python benchmarks/shape.py [FOLDER]` (default: pipeline/).

Lengths of functions, files and classes, how often `Any` is written, and the share of lines that are comments.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from statistics import median, quantiles


def main() -> None:
    """Print the figures of all modules below a folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "pipeline")
    sources = {file: file.read_text() for file in sorted(folder.rglob("*.py"))}
    lines = {file: source.count("\n") for file, source in sources.items()}
    functions, classes = [], []
    for file, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            length = (getattr(node, "end_lineno", 0) or 0) - getattr(node, "lineno", 0) + 1
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append((length, f"{file}:{node.name}"))
            elif isinstance(node, ast.ClassDef):
                classes.append((length, f"{file}:{node.name}"))
    total, lengths = sum(lines.values()), [length for length, _ in functions]
    anys = sum(len(re.findall(r"\bAny\b", source)) for source in sources.values())
    comments = sum(map(comment_lines, sources.values()))
    print(f"{len(sources)} files, {total} lines, {len(functions)} functions, {len(classes)} classes")
    print(f"functions: median {median(lengths):.0f}, 90th percentile {quantiles(lengths, n=10)[-1]:.0f}")
    by_length = [(count, str(file)) for file, count in lines.items()]
    print(f"files: median {median(lines.values()):.0f}, longest {longest(by_length)}")
    print(f"longest functions {longest(functions)}\nlongest classes {longest(classes)}")
    print(f"Any: {anys}, {1000 * anys / total:.1f} per 1,000 lines")
    print(f"comments: {100 * comments / total:.1f} % of lines")


def comment_lines(source: str) -> int:
    """Count the lines that hold a comment, besides those for tools."""
    found = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
    return sum(not re.match(r"#\s*(fmt|type|noqa|ruff)\b", token.string) for token in found)


def longest(named: list[tuple[int, str]]) -> str:
    return ", ".join(f"{length} {name}" for length, name in sorted(named, reverse=True)[:4])


if __name__ == "__main__":
    main()
