"""Between the run's records and the messages of an engine process."""

from __future__ import annotations

from pipeline.config import VllmSettings
from pipeline.engines.vllm.backlog import Work
from pipeline.engines.vllm.messages import Prompt, Reply
from pipeline.records import Completion, Failure, Request

# vLLM has other reasons, such as `abort`: what was written until then is no whole reply.
_FINISHED = ("stop", "length", "repetition")


def write_prompt(work: Work, settings: VllmSettings) -> Prompt:
    """Return a request as the engine process needs it."""
    request = work.request
    return Prompt(
        request_id=request.request_id,
        images=tuple((page.label, str(page.image)) for page in request.pages),
        text=request.prompt,
        rank=work.rank,
        # Only after a loop: it lowers every token of the prompt as well, which an answer may have to repeat.
        repetition_penalty=settings.repetition_penalty if request.fault == "repetition" else 1.0,
    )


def completion(request: Request, reply: Reply) -> Completion:
    """Return what an engine process replied to a request."""
    if reply.refusal is not None:
        return _failed(
            request, "engine_failed", f"the engine refused this request ({reply.refusal}); shorten it"
        )
    failure = None
    if reply.finish_reason not in _FINISHED:
        message = f"{_name(request)}: the engine ended this request ({reply.finish_reason}); run again"
        failure = Failure("engine_failed", message)
    return Completion(
        text=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        output_tokens=reply.output_tokens,
        token_ends=reply.token_ends,
        token_probabilities=reply.token_probabilities,
        engine_seconds=reply.seconds,
        failure=failure,
    )


def killed_engine(request: Request, reason: str) -> Completion:
    """Return the failure of a request that the engine dies of."""
    message = f"the engine died each time it was given this request ({reason}); look at its pages"
    return _failed(request, "engine_failed", message)


def too_long(request: Request, context_tokens: int) -> Completion:
    """Return the failure of a request that the model has no room for."""
    message = (
        f"{request.prompt_tokens:,} tokens exceed the context of {context_tokens:,};"
        " shorten the question or lower task.max_output_tokens"
    )
    return _failed(request, "too_long", message)


def _failed(request: Request, code: str, message: str) -> Completion:
    return Completion("", "error", failure=Failure(code, f"{_name(request)}: {message}"))


def _name(request: Request) -> str:
    return f"{request.cell.subject.source}, {request.cell.question.question_id}"
