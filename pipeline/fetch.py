"""Fetch a model's weights, ahead of a run: for login nodes, with a network and no GPU.

    python -m pipeline.fetch model=pixtral_large model.path=/models/pixtral-large
    python -m pipeline.fetch model=pixtral_12b

Without `model.path` the weights go to the hub's own cache, which HF_HOME places and where a run looks for
them. Takes the settings of pipeline.run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import usage
from pipeline.command import errors_end_in_a_line
from pipeline.compose import compose_settings
from pipeline.config import ModelSettings
from pipeline.engines.vllm import preflight
from pipeline.errors import SettingsError


def main() -> None:
    """Fetch, and say what to put on the command line; exit 1 with one line when it cannot be done."""
    usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        print(fetch(sys.argv[1:]))


def fetch(overrides: Sequence[str]) -> str:
    """Download the files that vLLM reads, and return what to tell the user. Raises SettingsError."""
    # Settings of a run need an input, of which nothing is read here.
    model = compose_settings(["input=.", *overrides]).model
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise SettingsError("huggingface_hub is not installed: pip install 'docbatch[fetch]'") from error
    patterns = [*preflight.WEIGHTS, "*.md", "LICENSE*"]
    try:
        folder = Path(snapshot_download(model.repository, allow_patterns=patterns, local_dir=model.path))
    # Before OSError, of which it is one.
    except LocalEntryNotFoundError as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise SettingsError(f"{model.repository}: the hub cannot be reached{offline}") from error
    except (HfHubHTTPError, OSError) as error:
        raise SettingsError(_refused(model, error)) from error
    files = [file for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**30
    used = f"model.path={folder}"
    return f"{model.repository}: {len(files)} files, {size:.1f} GiB\n{model.notice.strip()}\nuse {used}"


def _refused(model: ModelSettings, error: Exception) -> str:
    """Say what to do about a download that failed."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"{model.repository} is gated: accept the {model.license} on"
            f" https://huggingface.co/{model.repository} and put a token of that account into HF_TOKEN"
        )
    return f"{model.repository}: could not be fetched ({str(error).strip().splitlines()[0]})"


if __name__ == "__main__":
    main()
