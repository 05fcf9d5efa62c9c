"""What a run counts: it grows while the run goes on, and is written to run.json."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Summary:
    """Counts of a run; inputs = ok + error, and cells = reused + answered + failed + not_asked."""

    inputs: int = 0
    inputs_found: int = 0
    """Known before any is opened; `inputs` counts them as they are met."""
    inputs_done: int = 0
    """Of these: nothing is left to ask about them in this run."""
    inputs_ok: int = 0
    inputs_error: int = 0
    ignored_files: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    """Files that are no input, by ending."""
    input_errors: dict[str, int] = field(default_factory=dict)
    failed_inputs: dict[str, list[str]] = field(default_factory=dict)
    """A few sources of each `error_code` among the documents."""
    questions_unmatched: list[str] = field(default_factory=list)
    """Document patterns that match no input."""
    cells: int = 0
    not_asked: int = 0
    """Questions that were not asked because an earlier answer does not say so."""
    reused: int = 0
    """Answers that were there before this run, and still are what these settings give."""
    earlier: int = 0
    """Answers of the same task that were there before this run, whatever they were about."""
    answered: int = 0
    derived: int = 0
    """Of the answered: made of stored replies alone."""
    failed: int = 0
    documents: int = 0
    """Documents, or folders where each is asked about as a whole, that were worked on to the end."""
    pages: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    gpu_seconds: float = 0.0
    """Of the GPUs that this run held while it had requests under way: the sum over its requests."""
    cost: float = 0.0
    """The same in money, with the cores of engines without a GPU."""
    loading_gpu_seconds: float = 0.0
    """Beside these: until the model was loaded."""
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    rows_left: dict[str, int] = field(default_factory=dict)
    """Rows that left the table of answers, by reason; the journal keeps them."""
