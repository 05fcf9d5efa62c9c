"""Write the tables of a run in other formats: CSV, XLSX, JSON Lines, or Markdown for each document.

    python -m pipeline.export output=runs/march format=xlsx
    python -m pipeline.export output=runs/march format=markdown to=texts

    csv        a file for each table, UTF-8, in which no text is taken for a formula by a spreadsheet
    xlsx       one file with a sheet for each table: numbers, booleans and times (UTC) are such
    jsonl      a file for each table, a JSON object a line, nothing changed
    markdown   a file for each document, with its answers page by page: for task=transcribe

Settings:

    output=DIR            a directory that a run has written
    format=csv            or xlsx, jsonl, markdown
    to=DIR                where to; by default OUTPUT/export
    tables=[answers,documents]   which; requests too
"""

from __future__ import annotations

import sys

from pipeline import store, usage
from pipeline.command import errors_end_in_a_line
from pipeline.compose import compose_export


def main() -> None:
    """Export, and name each file; exit 1 with one line where that cannot be done."""
    usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        settings = compose_export(sys.argv[1:])
        from pipeline.viewing import formats

        with store.opened(settings.output), store.opened(settings.to or settings.output):
            for file in formats.write(settings):
                print(store.named(str(file)))


if __name__ == "__main__":
    main()
