"""What the engine promises for single requests: exact counts, cached prefixes, failures that stay alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Bench

TEXTS = [
    "What is the total of the invoice, in EUR?",
    "Welche Größe hat die Straße? Übermäßig „zitiert“.",
    "Où est né l'auteur de « L'Étranger » ?",
    "¿Cuántos años tenía la niña cuando llegó?",
    "Qual é a conclusão da investigação?",
    "Perché il caffè è più caro?",
    "Сколько страниц в этом документе?",
    "この文書の著者は誰ですか？",
    "本文档的目的是什么？",
    "이 문서의 제목은 무엇입니까?",
    "Line one\nline two\n\n  indented\ttabs\r\nand an emoji 🐘, [INST] [IMG] <s> &amp; \u200b zero width",
]
SHAPES = [(16, 16), (1024, 736), (736, 1024), (1024, 16), (16, 1024), (1024, 1024), (720, 720), (304, 96)]


@pytest.mark.parametrize("scope", ["page", "document", "folder"])
def test_every_prompt_has_exactly_the_tokens_that_were_counted(bench: Bench, scope: str) -> None:
    requests = [
        bench.request(
            f"{scope} {i}", [bench.page(i + 1, *SHAPES[i % len(SHAPES)], name=f"ü {i}.pdf")], text, scope
        )
        for i, text in enumerate(TEXTS)
    ]
    many = [bench.page(i + 1, *shape, name="many.pdf") for i, shape in enumerate(SHAPES)]
    requests.append(bench.request(f"{scope} many", many, TEXTS[0], scope))
    requests.append(bench.request(f"{scope} text alone", [], "\n".join(TEXTS), scope))
    done = bench.answer(*requests)
    assert {r.request_id: done[r.request_id].prompt_tokens for r in requests} == {
        r.request_id: r.prompt_tokens for r in requests
    }
    assert all(completion.failure is None for completion in done.values())


def test_thirty_full_pages_fit_one_request(bench: Bench) -> None:
    pages = [bench.page(n, 736, 1024, name="thirty.pdf", total=30) for n in range(1, 31)]
    request = bench.request("thirty", pages, "What is it about?")
    assert 90_000 < request.prompt_tokens < 131_072
    completion = bench.answer(request)["thirty"]
    assert completion.failure is None
    assert completion.prompt_tokens == request.prompt_tokens


def test_a_further_question_of_the_same_pages_is_found_in_the_cache(bench: Bench) -> None:
    pages = [bench.page(n, 1024, 1024, name="cached.pdf") for n in (1, 2)]
    first, second = (bench.request(name, pages, f"Question {name}?") for name in ("one", "two"))
    assert bench.answer(first)["one"].cached_tokens < 200  # the system prompt, at most
    cached = bench.answer(second, window_number=1)["two"].cached_tokens
    images = sum(bench.counter.image(1024, 1024) for _ in pages)
    assert images - 256 < cached < second.prompt_tokens


def test_a_prompt_that_cannot_be_used_costs_only_its_own_row(bench: Bench) -> None:
    good = [bench.request(f"good {n}", [bench.page(n, 64, 64)], "?") for n in (1, 2)]
    torn = bench.page(3, 64, 64)
    assert torn.image is not None
    torn.image.write_bytes(torn.image.read_bytes()[:500])
    gone = replace(bench.page(4, 64, 64), image=bench.scratch / "gone.ppm")
    long = replace(bench.request("long", [], "?"), prompt_tokens=200_000)
    bad = [bench.request("torn", [torn], "?"), bench.request("gone", [gone], "?"), long]
    done = bench.answer(good[0], *bad, good[1])
    codes = {
        name: completion.failure.code if completion.failure else "ok" for name, completion in done.items()
    }
    assert codes == {
        "good 1": "ok", "good 2": "ok", "torn": "engine_failed", "gone": "engine_failed", "long": "too_long",
    }  # fmt: skip
    assert "a.pdf, torn" in done["torn"].failure.message  # type: ignore[union-attr]


def test_a_reply_has_a_reason_and_the_place_and_probability_of_each_token(bench: Bench) -> None:
    completion = bench.answer(bench.request("any", [bench.page(1, 64, 64)], "?"))["any"]
    assert len(completion.token_ends) == len(completion.token_probabilities) == completion.output_tokens
    assert list(completion.token_ends) == sorted(completion.token_ends)
    assert completion.token_ends[-1] == len(completion.text)
    # Every token but the bytes of characters, the spaces and the end writes something of its own.
    assert len(set(completion.token_ends)) > completion.output_tokens / 3
    assert all(0 < probability <= 1 for probability in completion.token_probabilities)
    assert completion.finish_reason in ("stop", "length", "repetition")
    assert completion.output_tokens > 0
    assert completion.engine_seconds > 0
