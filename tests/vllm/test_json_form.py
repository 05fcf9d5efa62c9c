"""Replies that are guided may be written as the model's tokenizer writes JSON, and in no looser form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xgrammar
from check import FOLDER
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from vllm.tokenizers.mistral import MistralTokenizer as VllmTokenizer

from pipeline.engines.vllm import json_form

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "answer": {"type": ["string", "null"]},
            "pages": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["answer", "pages"],
        "additionalProperties": False,
    }
)
SAID = {"answer": "a b", "pages": [1, 23]}


def accepts(compiled: xgrammar.CompiledGrammar, tokens: list[int]) -> bool:
    """Tell whether a decoder held to a grammar may write these tokens, and then end."""
    matcher = xgrammar.GrammarMatcher(compiled)
    return all(matcher.accept_token(token) for token in tokens) and matcher.is_terminated()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> xgrammar.GrammarCompiler:
    """As vLLM makes it, with the form adopted."""
    as_given = xgrammar.GrammarCompiler.compile_json_schema
    monkeypatch.setattr(xgrammar.GrammarCompiler, "compile_json_schema", as_given)  # undone afterwards
    json_form.adopt()
    tokenizer = VllmTokenizer.from_pretrained(str(FOLDER))
    return xgrammar.GrammarCompiler(
        xgrammar.TokenizerInfo(
            encoded_vocab=tokenizer.vocab,
            vocab_type=xgrammar.VocabType.BYTE_FALLBACK,
            vocab_size=len(tokenizer.vocab),
            stop_token_ids=[tokenizer.eos_token_id],
            add_prefix_space=True,
        )
    )


@pytest.mark.parametrize("more", [{}, {"separators": (",", ":")}])
def test_a_model_may_write_json_as_it_learned_to(
    compiler: xgrammar.GrammarCompiler, more: dict[str, tuple[str, str]]
) -> None:
    given = MistralTokenizer.from_file(str(next(Path(FOLDER).glob("tokenizer*"))))
    encode = given.instruct_tokenizer.tokenizer.encode
    held = compiler.compile_json_schema(SCHEMA, any_whitespace=False, **more)
    assert accepts(held, encode(json.dumps(SAID), bos=False, eos=True))
    assert not accepts(held, encode(json.dumps(SAID, indent=1), bos=False, eos=True))
    assert not accepts(held, encode(json.dumps(SAID | {"pages": "1"}), bos=False, eos=True))


def test_a_schema_with_free_white_space_is_left_as_it_is(compiler: xgrammar.GrammarCompiler) -> None:
    given = MistralTokenizer.from_file(str(next(Path(FOLDER).glob("tokenizer*"))))
    tokens = given.instruct_tokenizer.tokenizer.encode(json.dumps(SAID, indent=1), bos=False, eos=True)
    # Nothing may stand before an object of free form: the space that the tokenizer begins with is left out.
    tokens[0] = given.instruct_tokenizer.tokenizer.vocab().index("{")
    assert accepts(compiler.compile_json_schema(SCHEMA, any_whitespace=True), tokens)
