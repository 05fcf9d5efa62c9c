"""The shape of the code: which module may import which, and where each heavy library lives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pipeline"
LAYERS = [
    {"records", "errors", "config"},
    {"columns", "draw", "workers", "lock"},
    {"journal", "rows"},
    {"wanted"},
    {"published", "shards"},
    {
        "source",
        "raster",
        "tokens",
        "pack",
        "order",
        "prompt",
        "task",
        "reduce",
        "ledger",
        "sink",
        "progress",
    },
    {
        "engines",
        "engines.base",
        "engines.embedded",
        "engines.extract",
        "engines.guide",
        "engines.passages",
        "engines.preflight",
        "engines.replica",
        "engines.vllm",
        "engines.vllm_host",
    },
    {"plan", "show", "report", "evaluate", "writer", "account"},
    {"assembly"},
    {"run"},
    {"check", "fetch", "status"},
    {"publish"},
]
HOMES = {
    "pymupdf": {"draw"},
    "pymupdf4llm": {"engines.embedded"},
    "mistral_common": {"tokens"},
    "pyarrow": {"columns", "journal", "published", "shards", "sink", "wanted"},
    "rapidocr": {"engines.embedded"},
    "bm25s": {"engines.passages"},
    "hydra": {"run"},
    "omegaconf": {"run"},
    "pebble": {"workers", "raster"},
    "tqdm": {"progress"},
    "jinja2": {"report"},
    "vllm": {"engines.vllm_host"},
    "huggingface_hub": {"engines.preflight", "fetch"},
}


def modules() -> dict[str, ast.Module]:
    files = {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in PACKAGE.rglob("*.py")}
    named = {name.removesuffix(".__init__"): file for name, file in files.items() if name != "__init__"}
    return {name: ast.parse(file.read_text()) for name, file in named.items()}


def imports(tree: ast.Module, *, at_import: bool = False) -> set[str]:
    found: set[str] = set()
    nodes = tree.body if at_import else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module in ("pipeline", "pipeline.engines"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> int:
    return next(number for number, group in enumerate(LAYERS) if name in group)


@pytest.mark.parametrize("name", sorted(modules()))
def test_modules_import_only_from_layers_before_their_own(name: str) -> None:
    for imported in imports(modules()[name]):
        inner = imported.removeprefix("pipeline.")
        if not imported.startswith("pipeline.") or not any(inner in group for group in LAYERS):
            continue
        allowed = layer(inner) < layer(name) or (inner.startswith("engines") and name.startswith("engines"))
        assert allowed, f"{name} imports {inner}"


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_heavy_library_has_one_home(library: str) -> None:
    users = {n for n, tree in modules().items() if any(i.split(".")[0] == library for i in imports(tree))}
    assert users == HOMES[library]


def test_asking_for_help_loads_nothing_heavy() -> None:
    heavy = {"pymupdf", "mistral_common", "pyarrow", "pandas", "numpy", "rapidocr", "vllm", "bm25s", "torch"}
    for name in ("run", "config", "errors"):
        assert not {i.split(".")[0] for i in imports(modules()[name], at_import=True)} & heavy
