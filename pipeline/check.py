"""Check overrides before anything is queued: `python -m pipeline.check input=pdfs/ …`."""

from __future__ import annotations

import sys

from pipeline.command import compose_settings, errors_end_in_a_line


def main() -> None:
    """Say nothing if `pipeline.run` would accept the overrides; else one line, and exit 1."""
    with errors_end_in_a_line():
        compose_settings(sys.argv[1:])


if __name__ == "__main__":
    main()
