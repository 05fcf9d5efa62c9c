"""Count prompt tokens exactly, with mistral_common as the only truth."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mistral_common.protocol.instruct.chunk import ContentChunk, ImageChunk, ImageURLChunk, TextChunk
from mistral_common.protocol.instruct.messages import SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.image import ImageEncoder, ImageEncoding
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from PIL import Image

from pipeline.config import ModelSettings
from pipeline.errors import SettingsError
from pipeline.records import Page

Tokenizer = MistralTokenizer[Any, Any, Any, Any, Any]


class TokenCounter:
    """Count the tokens of a model's prompts without encoding an image.

    mistral_common encodes a message piece by piece, so a prompt costs the sum of its pieces plus what the
    chat format adds, which is measured once.
    """

    def __init__(self, settings: ModelSettings, system_prompt: str) -> None:
        self._patch_px = settings.image_patch_px
        self._tokenizer = load_tokenizer(settings)
        self.text = _counter(self._tokenizer.instruct_tokenizer.tokenizer.encode)
        self._system = system_prompt
        probe = [("Page 1 of 1", Image.new("RGB", (self._patch_px, self._patch_px)))]
        pieces = self.text("Page 1 of 1") + self.image(self._patch_px, self._patch_px) + self.text("?")
        self.overhead = len(self.encode(probe, "?")) - pieces
        """Tokens of the system prompt and the chat format around the pieces."""

    def image(self, width_px: int, height_px: int) -> int:
        """Count an image whose sides are whole patches within the model's limit.

        One token per patch, one at the end of each row of patches (`ImageEncoder` in mistral_common).
        """
        return (width_px // self._patch_px + 1) * (height_px // self._patch_px)

    def request(self, pages: Sequence[Page], prompt: str) -> int:
        """Count a request: the labels and images of pages, then the prompt; or the prompt alone."""
        if not pages:
            return self.merge(prompt)
        shown = sum(self.text(page.label) + self.image(page.width_px, page.height_px) for page in pages)
        return shown + self.text(prompt) + self.overhead

    def merge(self, prompt: str) -> int:
        """Count a prompt of text alone."""
        return len(self.encode([], prompt))

    def encode(self, images: Sequence[tuple[str, Image.Image]], prompt: str) -> list[int]:
        """Return the token ids of a request: labelled images first, the prompt last."""
        content: list[ContentChunk] = []
        for label, image in images:
            content += [TextChunk(text=label), ImageChunk(image=image)]
        content.append(TextChunk(text=prompt))
        messages = [SystemMessage(content=self._system), UserMessage(content=content)]
        request: ChatCompletionRequest[Any] = ChatCompletionRequest(messages=messages)
        return list(self._tokenizer.encode_chat_completion(request).tokens)


def _counter(encode: Callable[..., Sequence[int]]) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text."""

    # The same labels and questions are counted for document after document. No method of the counter: that
    # would refer to itself, and keep its vocabulary in memory after the run.
    @functools.lru_cache(maxsize=4096)
    def count(text: str) -> int:
        return len(encode(text, bos=False, eos=False))

    return count


class TokensOfFiles(ImageEncoder):
    """Give the tokens of image files from their sizes, without reading a pixel.

    Where vLLM tokenizes a chat it needs no pixels: it prepares images afterwards, from memory, once for all
    prompts that show them. Left alone, mistral_common would prepare them again for every prompt.
    """

    def __call__(self, content: ImageChunk | ImageURLChunk) -> ImageEncoding:
        url = content.get_url() if isinstance(content, ImageURLChunk) else ""
        if not url.startswith("file://"):
            return super().__call__(content)
        with Image.open(url.removeprefix("file://")) as image:
            columns, rows = self._image_to_num_tokens(image)
        ids = self.special_ids
        tokens = ([ids.img] * columns + [ids.img_break]) * rows
        # The last row ends the image in place of a row.
        tokens[-1] = ids.img_end
        return ImageEncoding(tokens=tokens, image=np.empty((3, 0, 0), np.float32))


def skip_pixels(instruct_tokenizer: Any) -> None:
    """Let a tokenizer of mistral_common, from now on, give image files their tokens alone."""
    encoder = instruct_tokenizer.image_encoder
    instruct_tokenizer.image_encoder = TokensOfFiles(encoder.image_config, encoder.special_ids)


def load_tokenizer(settings: ModelSettings) -> Tokenizer:
    """Load the model folder's tokenizer, or the one of that name that mistral_common ships."""
    shipped = Path(str(MistralTokenizer._data_path())) / settings.tokenizer
    if settings.path is None:
        if not shipped.is_file():
            raise SettingsError(f"model.tokenizer={settings.tokenizer}: mistral_common ships no such file")
        return _shipped(shipped, settings)
    names = (settings.tokenizer, "tekken.json", "tokenizer.model.v7m1", "tokenizer.model.v3")
    for name in names:
        if (file := Path(settings.path) / name).is_file():
            return MistralTokenizer.from_file(str(file))
    raise SettingsError(f"model.path={settings.path}: holds no tokenizer file ({', '.join(names)})")


def _shipped(file: Path, settings: ModelSettings) -> Tokenizer:
    if settings.tokenizer_version is None:
        return MistralTokenizer.from_file(str(file))
    # Models that share a vocabulary differ in instruct format and image geometry: write those into a copy.
    vocabulary = json.loads(file.read_text(encoding="utf-8"))
    vocabulary["config"]["version"] = settings.tokenizer_version
    vocabulary["image"] = {
        "image_patch_size": settings.image_patch_px,
        "max_image_size": settings.image_max_px,
    }
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tekken.json"
        copy.write_text(json.dumps(vocabulary), encoding="utf-8")
        return MistralTokenizer.from_file(str(copy))
