"""Settings as dataclasses: types live here, values in `conf/`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(slots=True, kw_only=True)
class ShardSettings:
    index: int
    count: int
    planned: bool
    """Take the inputs that plan.parquet gives this shard, and leave publishing to `pipeline.publish`."""


@dataclass(slots=True, kw_only=True)
class SourceSettings:
    include: list[str]
    """Globs on the relative path; empty: everything."""
    exclude: list[str]
    follow_links: bool
    """Read what lies behind links that lead out of the input."""


@dataclass(slots=True, kw_only=True)
class RasterSettings:
    workers: int
    """Worker processes; 0: one per core available to this process."""
    page_timeout_s: float
    worker_memory_mb: int
    """Address space a worker may use beyond what it has after start-up."""
    max_megapixels: int
    """Decoded size over which an image file is refused."""
    password: str | None
    passwords: str | None
    """CSV with the columns `document` (path or glob) and `password`."""
    scratch: str | None
    """Folder for page images; null: tmpfs if it has room, else the temporary folder."""


@dataclass(slots=True, kw_only=True)
class PackSettings:
    max_images: int
    window_tokens: int
    """Most prompt tokens in flight together, below what the engine has room for."""


@dataclass(slots=True, kw_only=True)
class ModelSettings:
    name: str
    path: str | None
    """Folder with the weights, tokenizer and SYSTEM_PROMPT.txt; null: the shipped tokenizer counts."""
    repository: str
    """Where the weights are published, as `owner/name` on the model hub."""
    license: str
    license_url: str
    notice: str
    """What the licence asks to go with the weights and their output; written to run.json."""
    tokenizer: str
    """Tokenizer file in `path`, or of that name among mistral_common's own data."""
    tokenizer_version: str | None
    """Instruct format when it differs from the tokenizer file's own (Tekken only)."""
    image_max_px: int
    image_patch_px: int
    """Pixels per image token along each side: patch size times spatial merge."""
    context_tokens: int
    max_images: int
    system_prompt: str
    """Used when `path` has no SYSTEM_PROMPT.txt; {name}, {today}, {yesterday} are filled once per output."""
    parameters_b: float
    layers: int
    width: int
    """Attention heads times head size."""
    kv_heads: int
    head_dim: int
    gpus: int
    """GPUs that hold one copy in bf16, by the model's card."""


@dataclass(slots=True, kw_only=True)
class TaskSettings:
    name: str
    scope: str
    question: str | None
    """The only question, when there is no file of questions."""
    questions: str | None
    instruction: str
    schema: Any
    """JSON schema of the structured answer: a mapping, a path to a JSON file, or null for plain text."""
    labels: list[str]
    """Allowed values of the field `label`, for classification."""
    answer_field: str | None
    """Field of the structured answer that also fills the column `answer`."""
    evidence: bool
    """Ask for page numbers and a quote with the answer."""
    max_output_tokens: int


@dataclass(slots=True, kw_only=True)
class EmbeddedSettings:
    workers: int
    page_timeout_s: float
    worker_memory_mb: int
    """Address space a worker may use beyond what it has after start-up."""
    window_tokens: int
    passage_chars: int


@dataclass(slots=True, kw_only=True)
class VllmSettings:
    tensor_parallel: int | None
    """GPUs that share every layer of a copy; null: the fewest that hold it and two full requests."""
    replicas: int | None
    """Independent copies of the model on this host; null: as many as its GPUs allow."""
    quantization: str | None
    gpu_memory_utilization: float
    max_batched_tokens: int
    max_sequences: int
    eager: bool
    """Run without compiling and without CUDA graphs."""
    max_restarts: int
    """Engine deaths without a reply in between after which a run gives up."""
    load_timeout_s: float
    stall_timeout_s: float
    """Silence after which an engine with requests under way counts as dead."""
    repetition_tokens: int
    """Longest run of tokens that is looked for as the unit of a repetition loop; 0: none is."""
    repetition_count: int
    """Repetitions of it, one after the other, that end the reply."""
    repetition_penalty: float
    """For the second attempt after a loop."""
    args: dict[str, Any]
    """Any other vLLM engine argument, by its name; overrides what the pipeline sets."""


@dataclass(slots=True, kw_only=True)
class ServerSettings:
    urls: list[str]
    """Base URLs of vLLM servers, such as http://node7:8000/v1."""
    registry: str | None
    """Folder in which `docbatch serve` says where its servers are, and clients that they are at work."""
    served_model: str | None
    """The name under which the servers know the model; null: the only one that they have."""
    key_variable: str
    """Environment variable with the key of the servers, which is never a setting itself."""
    images: str
    """How page images travel: `data`, in the request; `file`, as paths that the servers read."""
    max_concurrency: int
    """Requests under way on each server at most; fewer while it is busy with others'."""
    request_timeout_s: float
    attempts: int
    """Times that a request is sent, with a cut or malformed reply each time, before its row is an error."""
    outage_s: float
    """Seconds without any reply after which a run gives up."""
    load_timeout_s: float
    repetition_tokens: int
    repetition_count: int
    repetition_penalty: float


@dataclass(slots=True, kw_only=True)
class EngineSettings:
    """On the command line an engine's own settings stand beside these: `engine.quantization=fp8`."""

    name: str
    review_below: float
    """Confidence under which an answer is marked `needs_review`."""
    calibration: str | None
    """File by which confidence becomes the share of right answers."""
    repair_attempts: int
    """Times that a reply which is cut, repeats itself or has the wrong form is asked for again."""
    embedded: EmbeddedSettings
    vllm: VllmSettings
    server: ServerSettings


@dataclass(slots=True, kw_only=True)
class SinkSettings:
    journal_seconds: float
    """Finished answers are journaled at the end of a window, and within it as often as this."""
    journal_parts: int
    """Journal parts that are rolled into one when so many have gathered."""
    checkpoint_rows: int
    """Journal rows after which the tables are published while the run goes on."""


@dataclass(slots=True, kw_only=True)
class CostSettings:
    gpu_hour_price: float
    """What one GPU costs in an hour, in any currency."""
    core_hour_price: float
    """What one core costs in an hour, where no GPU answers."""


@dataclass(slots=True, kw_only=True)
class BudgetSettings:
    """What a run and the attempts that it continues may spend; null: no limit."""

    gpu_hours: float | None
    money: float | None


@dataclass(slots=True, kw_only=True)
class GateSettings:
    gold: str | None
    """The golden set; null: the gold answers of the questions file."""
    min_score: float | None
    """What the score has to reach, by the lower end of its interval, for tables to be published."""
    profile: str
    metric: str
    right_from: float


@dataclass(slots=True, kw_only=True)
class RunSettings:
    input: str
    output: str
    plan: bool
    pilot: int
    """Inputs of a sample that are answered before the rest is planned; 0: none."""
    strict: bool
    retry_errors: bool
    cost: CostSettings
    budget: BudgetSettings
    shard: ShardSettings
    source: SourceSettings
    raster: RasterSettings
    pack: PackSettings
    model: ModelSettings
    task: TaskSettings
    engine: EngineSettings
    sink: SinkSettings
    evaluate: GateSettings


@dataclass(slots=True, kw_only=True)
class PageSettings:
    """Which page images go into a report, and how large they are."""

    pages: str
    """`auto`: of a sample, of answers that are wrong or to review, then of others; `all`; or `none`."""
    most_pages: int
    """Page images that `auto` draws at most."""
    sample: int
    """Answers of whatever kind whose pages `auto` draws first, so that not only doubtful ones are seen."""
    page_px: int
    """Longest side of a page image."""
    quality: int
    """Of WebP, 1 to 100."""


@dataclass(slots=True, kw_only=True)
class ReportSettings:
    output: str
    input: str | None
    """Where the inputs are now; null: where they were when they were asked about."""
    marks: str | None
    """CSV that a report has saved; it is merged into the reviews of the output."""
    report: PageSettings
    raster: RasterSettings


@dataclass(slots=True, kw_only=True)
class DiffSettings:
    old: str
    new: str
    input: str | None
    """Where the inputs are now; null: where they were for the new run."""
    report: PageSettings
    raster: RasterSettings


@dataclass(slots=True, kw_only=True)
class ExportSettings:
    output: str
    format: str
    to: str | None
    """The folder to write to; null: OUTPUT/export."""
    tables: list[str]


@dataclass(slots=True, kw_only=True)
class EvaluateSettings:
    run: str | None
    gold: str | None
    """The golden set; null: the gold answers of the run's own questions, and its reviews."""
    against: str | None
    """Another run, whose score is compared answer by answer."""
    profile: str
    metric: str
    """The metric that says whether an answer is right."""
    right_from: float
    """The score from which it is."""
    calibrate: str | None
    """The file that a calibration is written to."""
    method: str
    vectors: str | None
    """Folder of CSV files with scores of reference implementations."""
    dataset: str | None
    files: str | None
    """Parquet files of the data set."""
    to: str | None
    limit: int | None


def whole(settings: RunSettings) -> RunSettings:
    """Return the settings of a run over all inputs, which publishes what its shards have journaled."""
    return replace(settings, shard=ShardSettings(index=0, count=1, planned=False))
