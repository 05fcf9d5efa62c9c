"""What each error code means and what to do about it, for those who do not read docs/errors.md."""

from __future__ import annotations

REMEDIES = {
    "encrypted": (
        "needs a password, or the one given is wrong",
        "give raster.password=…, or raster.passwords=FILE.csv with the columns document and password",
    ),
    "corrupt": ("damaged, or not what its ending says", "fetch the file again, or repair it"),
    "empty": ("no bytes, or no pages", "fetch the file again"),
    "unsupported": (
        "a kind of document that is not read here",
        "convert it to PDF or PNG, or leave it out with source.exclude",
    ),
    "too_large": (
        "an image or page that needs more room than it may take",
        "raise raster.max_megapixels or raster.worker_memory_mb",
    ),
    "unreadable": (
        "permissions, a link that leads out of the input, a page that cannot be drawn",
        "check the file and its permissions; source.follow_links=true for links",
    ),
    "render_timeout": ("a page was not drawn in time", "raise raster.page_timeout_s"),
    "render_crashed": ("the process that drew the page died", "lower raster.workers, or look at that page"),
    "too_long": (
        "the question and one page exceed the model's context",
        "shorten the question, or lower task.max_output_tokens",
    ),
    "truncated": ("the reply was cut, on the second attempt too", "raise task.max_output_tokens"),
    "repetition": (
        "the reply repeated itself without end, on the second attempt too",
        "reword the question, or raise engine.repetition_penalty",
    ),
    "schema_invalid": (
        "the reply is not of the form asked for, on the second attempt too",
        "look at the raw reply; simplify the schema",
    ),
    "engine_failed": (
        "the engine refused the request, or ended with it",
        "look at the pages and run again; logs/engine-*.log has the cause",
    ),
}
"""Code → what happened, and what to do."""
