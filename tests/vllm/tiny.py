"""A tiny Pixtral with random weights: real vLLM code over the real tokenizer, small enough for a CPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

TOKENIZER = "mistral_instruct_tokenizer_241114.model.v7m1"


def build(folder: Path) -> Path:
    """Write a model folder in Mistral format, without weights: load it with `load_format=dummy`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(str(MistralTokenizer._data_path())) / TOKENIZER, folder / "tokenizer.model.v7m1")
    shape = {
        "dim": 256, "n_layers": 2, "head_dim": 32, "hidden_dim": 512, "n_heads": 8, "n_kv_heads": 2,
        "rope_theta": 1e6, "norm_eps": 1e-5, "vocab_size": 32768, "max_seq_len": 131072,
        "max_position_embeddings": 131072,
        "vision_encoder": {
            "hidden_size": 64, "num_channels": 3, "image_size": 1024, "patch_size": 16, "rope_theta": 1e4,
            "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
            "image_token_id": 10, "image_break_token_id": 14, "image_end_token_id": 15,
            "adapter_bias": False,
        },
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(shape))
    return folder
