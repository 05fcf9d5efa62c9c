"""Errors, split by what the caller does next.

PipelineError
├── SettingsError          the run cannot start: fix the command line (exit 1)
├── OutputError            the output cannot be used: locked, full, of another layout (exit 1)
├── OverBudget             nothing more may be spent (exit 75, finished work is saved)
├── StorageError           object storage cannot be reached, or refuses (exit 1, finished work is saved)
│   └── StorageRefused     one object may not be read: a row where it is an input
├── EngineLost             the engine is gone for good (exit 1, finished work is saved)
├── WorkersLost            no worker process lives (exit 1, finished work is saved)
├── ScratchError           page images cannot pass through their folder (exit 1, finished work is saved)
│   └── ScratchFull        there is no room now: once pages are released there may be
└── DocumentError          concerns one document or page: becomes a row with `code`
    ├── Encrypted  Corrupt  Empty  Unsupported  TooLarge  Unreadable
    └── RenderTimeout  RenderCrashed
Interrupted                a signal asked the run to stop (exit 75, finished work is saved)
"""


class PipelineError(Exception):
    """Base of all errors that the pipeline raises on purpose."""


class SettingsError(PipelineError):
    """A setting is wrong; the message names it and the fix."""


class OutputError(PipelineError):
    """The output directory cannot be used; the message says why."""


class OverBudget(PipelineError):
    """What is left would exceed the budget; the message says by how much."""


class StorageError(PipelineError):
    """Object storage cannot be reached, or refuses; the message says which place, why, and what to do."""


class StorageRefused(StorageError):
    """An object is not there, has changed, or may not be read or written by these credentials."""


class EngineLost(PipelineError):
    """The engine cannot answer any more requests; the message says why."""


class WorkersLost(PipelineError):
    """No worker process can do anything any more; the message says why."""


class ScratchError(PipelineError):
    """The folder that page images pass through cannot be used; the message says why."""


class ScratchFull(ScratchError):
    """The folder has no room for a page image until others are released."""


class DocumentError(PipelineError):
    """Concerns one document; `code` is the `error_code` of its rows."""

    code = "unreadable"


class Encrypted(DocumentError):
    code = "encrypted"


class Corrupt(DocumentError):
    code = "corrupt"


class Empty(DocumentError):
    code = "empty"


class Unsupported(DocumentError):
    code = "unsupported"


class TooLarge(DocumentError):
    code = "too_large"


class Unreadable(DocumentError):
    code = "unreadable"


class RenderTimeout(DocumentError):
    code = "render_timeout"


class RenderCrashed(DocumentError):
    code = "render_crashed"


class Interrupted(BaseException):
    """A signal asked the run to stop; not an `Exception`, so that no stage mistakes it for a failure."""
