"""Write trained weights as a model folder that vLLM loads: python training/export.py WEIGHTS FOLDER."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from lessons import SYSTEM_PROMPT
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from network import Shape

TOKENIZER = "mistral_instruct_tokenizer_241114.model.v7m1"


def export(weights: Path, folder: Path) -> Path:
    """Write a folder in Mistral format: weights, shape, tokenizer and system prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, folder / "consolidated.safetensors")
    shutil.copyfile(Path(str(MistralTokenizer._data_path())) / TOKENIZER, folder / "tokenizer.model.v7m1")
    (folder / "params.json").write_text(json.dumps(Shape().parameters(), indent=1) + "\n")
    (folder / "SYSTEM_PROMPT.txt").write_text(SYSTEM_PROMPT + "\n")
    return folder


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
