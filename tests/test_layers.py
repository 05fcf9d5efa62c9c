"""The shape of the code: what each folder may import, and where each heavy library lives."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"
SPINE = {"records", "summary", "config", "errors", "texts"}
GROUND = {"workers", "slurm", "owner", "store", "mirror", "objects"}
STAGES = {"reading", "asking", "engines", "answering", "tables"}
MAY_IMPORT: dict[str, set[str]] = {
    **{module: SPINE for module in SPINE},
    **{module: SPINE for module in GROUND},
    "owner": SPINE | {"slurm"},
    "mirror": SPINE | {"objects", "owner"},
    "store": SPINE | {"objects", "mirror"},
    **{
        stage: SPINE | GROUND for stage in STAGES
    },  # nothing of each other: the flow hands over what they need
    "flow": SPINE | GROUND | STAGES,
    "sharding": SPINE | GROUND | STAGES | {"flow", "evaluating"},
    "viewing": SPINE | GROUND | STAGES,
    "evaluating": SPINE | GROUND | STAGES | {"viewing"},
    "command": SPINE | {"store"},
    "check_values": SPINE | {"engines", "objects"},
    "compose": SPINE | {"check_values"},
    "usage": SPINE | {"compose"},
}
COMMANDS = {
    "run",
    "plan",
    "status",
    "publish",
    "report",
    "diff",
    "evaluate",
    "export",
    "check",
    "completion",
    "fetch",
    "serve",
    "ask",
    "api",
    "docbatch",
}
EVERYTHING = {*MAY_IMPORT, "run"}
HOMES = {
    "pymupdf": {"reading"},
    "pypdfium2": {"reading.second_renderer"},
    "font_roboto": {"reading.svg"},
    "resvg_py": {"reading.svg"},
    "pillow_heif": {"reading.images"},
    "pymupdf4llm": {"engines.embedded"},
    "mistral_common": {"asking.tokens"},
    "pyarrow": {"tables", "sharding.shards", "evaluating.datasets"},
    "rapidocr": {"engines.embedded"},
    "rapidfuzz": {"evaluating.metrics"},
    "jiwer": {"evaluating.metrics"},
    "anls_star": {"evaluating.metrics"},
    "sklearn": {"evaluating.calibrate"},
    "matplotlib": {"evaluating.plots"},
    "hydra": {"compose", "run"},
    "omegaconf": {"compose", "run"},
    "pebble": {"workers", "reading.raster"},
    "tqdm": {"flow.progress"},
    "vllm": {"engines.vllm"},
    "openai": {"engines.server"},
    "torch": {"engines.vllm"},
    "xgrammar": {"engines.vllm"},
    "py3langid": {"reading.language"},
    "xlsxwriter": {"viewing.formats"},
    "boto3": {"objects"},
    "botocore": {"objects"},
    "openpyxl": {"asking.workbook"},
    "charset_normalizer": {"asking.question_file"},
    "huggingface_hub": {"engines.vllm", "fetch"},
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    files = {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in PACKAGE.rglob("*.py")}
    named = {name.removesuffix(".__init__"): file for name, file in files.items() if name != "__init__"}
    return {name: ast.parse(file.read_text()) for name, file in named.items()}


def imports(tree: ast.Module, *, at_import: bool = False) -> set[str]:
    """Return the dotted names that a module imports: its own package's, and those of libraries."""
    found: set[str] = set()
    nodes = tree.body if at_import else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module.split(".")[0] == "pipeline":
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(imported: set[str]) -> set[str]:
    """Return the modules of the package among imported names."""
    return {name.removeprefix("pipeline.") for name in imported if name.startswith("pipeline.")} & set(
        modules()
    )


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_what_its_folder_may(name: str) -> None:
    folder = name.split(".")[0]
    assert folder in MAY_IMPORT or name in COMMANDS, f"{name} is on no list: say here what it may import"
    allowed = {folder, *(EVERYTHING if name in COMMANDS else MAY_IMPORT[folder])}
    found = {inner for inner in own(imports(modules()[name])) if inner.split(".")[0] not in allowed}
    assert not found, f"{name} imports {found}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: own(imports(tree)) - {name} for name, tree in modules().items()}
    while leaves := {name for name, needed in graph.items() if not needed & graph.keys()}:
        graph = {name: needed for name, needed in graph.items() if name not in leaves}
    assert not graph, f"in a circle, or above one: {sorted(graph)}"


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_heavy_library_has_one_home(library: str) -> None:
    users = {n for n, tree in modules().items() if any(i.split(".")[0] == library for i in imports(tree))}
    for user in users:
        assert any(user == home or user.startswith(home + ".") for home in HOMES[library]), user
    assert users, f"{library} is used nowhere: take it off the list"


def test_asking_for_help_loads_nothing_heavy() -> None:
    heavy = {
        "pymupdf",
        "mistral_common",
        "pyarrow",
        "pandas",
        "numpy",
        "rapidocr",
        "vllm",
        "bm25s",
        "torch",
        "sklearn",
        "matplotlib",
    }
    for name in ("run", "command", "compose", "config", "errors", "usage", "docbatch"):
        assert not {i.split(".")[0] for i in imports(modules()[name], at_import=True)} & heavy
