"""Check overrides before anything is queued: `python -m pipeline.check input=pdfs/ …`."""

from __future__ import annotations

import sys

from pipeline.command import EXIT_FAILED, compose_settings
from pipeline.errors import PipelineError


def main() -> None:
    """Say nothing if `pipeline.run` would accept the overrides; else one line, and exit 1."""
    try:
        compose_settings(sys.argv[1:])
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
