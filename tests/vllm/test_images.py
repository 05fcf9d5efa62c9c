"""What vLLM's image processor is given is what was rasterized, in the order of the pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from vllm.engine.arg_utils import EngineArgs
from vllm.renderers import ChatParams, renderer_from_config

from pipeline.answering.settle import settle
from pipeline.asking import tokens, windows
from pipeline.config import RunSettings
from pipeline.engines.vllm.backlog import Work
from pipeline.engines.vllm.host import Host
from pipeline.engines.vllm.launch import launches
from pipeline.engines.vllm.translate import write_prompt
from pipeline.flow import session
from pipeline.flow.inputs import find_inputs
from pipeline.sharding.balance import balance

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])  # of CLIP, with which Pixtral was trained
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711])


def test_images_arrive_unchanged_and_in_order(
    settings_for: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    make_pdf("a.pdf", *(f"Page {n} says {n * n}" for n in range(1, 13)))
    Image.effect_noise((300, 200), 90).convert("RGB").save(tmp_path / "in" / "b.png")
    given = settings_for(tmp_path / "output", f"input={tmp_path / 'in'}", "task=classify")
    with session.opened(given, lambda: find_inputs(given, balance)) as run:
        (launch,) = launches(given.engine.vllm, run.context)
        renderer = renderer_from_config(EngineArgs(**launch.arguments).create_engine_config())
        tokens.skip_pixels(renderer.get_tokenizer().instruct)
        host = Host(None, launch.sampling, None, None)  # type: ignore[arg-type]
        seen = 0
        chunks = run.agenda.chunks(run.agenda.outlines())
        for window in run.rasterizer.render(windows.windows(chunks, lambda: 10**9)):
            for chunk in window:
                asked, _ = settle(chunk)
                for request in asked:
                    prompt = write_prompt(Work(request, 0, 0), given.engine.vllm)
                    _, (rendered,) = renderer.render_chat(
                        [host._conversation(prompt)],
                        ChatParams(chat_template_kwargs={"add_generation_prompt": True, "tokenize": True}),
                        renderer.default_chat_tok_params,
                    )
                    assert len(rendered["prompt_token_ids"]) == request.prompt_tokens
                    tensors = [item["images"].data for item in rendered["mm_kwargs"]["image"]]
                    assert len(tensors) == len(request.pages)
                    for page, tensor in zip(request.pages, tensors, strict=True):
                        assert page.image is not None
                        with Image.open(page.image) as drawn:
                            expected = np.asarray(drawn, dtype=np.float64)
                        given_pixels = tensor.float().numpy().transpose(1, 2, 0) * DEVIATION + MEAN
                        assert (
                            np.abs(given_pixels * 255 - expected).max() < 1.1
                        )  # of 255: the engine computes in bfloat16
                        seen += 1
    assert seen == 13
