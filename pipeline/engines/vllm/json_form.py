"""Replies that a schema guides are written as models write JSON: `{"answer": "42", "pages": [3]}`.

What vLLM makes of `disable_any_whitespace` depends on its version: 0.25 has replies with a space after each
colon and comma, 0.32 with none, and neither lets them begin with the space that Mistral's tokenizers put
before every text. A model that is held to a form it never learned says something else: the small Pixtral of
the tests, which reads 100 % of the pages of a test, read none of them right in the form of 0.32.
"""

from __future__ import annotations

from typing import Any

import xgrammar

_SEPARATORS = (", ", ": ")
_MAY_BEGIN_WITH_A_SPACE = 'root ::= " "?'


def adopt() -> None:
    """Let xgrammar, in this process, compile schemas without free white space to that form."""
    compile_as_given = xgrammar.GrammarCompiler.compile_json_schema

    def compile_json_schema(compiler: Any, schema: Any, *, any_whitespace: bool = True, **more: Any) -> Any:
        if any_whitespace:
            return compile_as_given(compiler, schema, any_whitespace=any_whitespace, **more)
        more["separators"] = _SEPARATORS
        written = xgrammar.Grammar.from_json_schema(schema, any_whitespace=False, **more)
        begun = xgrammar.Grammar.from_ebnf(_MAY_BEGIN_WITH_A_SPACE)
        return compiler.compile_grammar(xgrammar.Grammar.concat(begun, written))

    xgrammar.GrammarCompiler.compile_json_schema = compile_json_schema
