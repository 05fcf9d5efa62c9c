"""Show how far the shards of a plan are, while they run too.

    python -m pipeline.status output=runs/march
    python -m pipeline.status output=runs/march json=true   # for programs

Settings:

    output=DIR            a directory that plan=true has written its plan to
    json=false            print everything as JSON
"""

from __future__ import annotations

import json
import sys
from collections import Counter

from pipeline import usage
from pipeline.command import errors_end_in_a_line
from pipeline.sharding.progress import DONE, FAILED, RUNNING, WAITING, Status, status

_MOST_LINES = 40


def main() -> None:
    """Print the status; exit 1 with one line when there is none."""
    usage.print_if_asked(__doc__)
    given = dict(each.partition("=")[::2] for each in sys.argv[1:])
    if set(given) - {"output", "json"} or "output" not in given:
        sys.exit("usage: python -m pipeline.status output=DIR [json=true]")
    with errors_end_in_a_line():
        found = status(given["output"])
    print(as_json(found) if given.get("json") == "true" else describe(found))


def describe(found: Status) -> str:
    """Return the status as a few lines."""
    errors: Counter[str] = Counter()
    for shard in found.shards:
        errors.update(shard.errors)
    states = ", ".join(f"{found.count(state)} {state}" for state in (DONE, RUNNING, WAITING, FAILED))
    total = sum(shard.documents for shard in found.shards)
    lines = [
        f"shards     {len(found.shards)}: {states}",
        f"documents  {sum(s.documents_done for s in found.shards)} of {total}"
        f" ({found.documents - total} of {found.documents} needed nothing)",
        f"pages      {sum(s.pages_done for s in found.shards)} of {sum(s.pages for s in found.shards)}",
        f"answers    {sum(s.answers for s in found.shards)} new, {errors.total()} errors"
        + (f": {', '.join(f'{code} {count}' for code, count in sorted(errors.items()))}" if errors else ""),
    ]
    if found.seconds_left is not None:
        lines.append(f"rate       {found.pages_per_second:.1f} pages/s; {_time(found.seconds_left)} left")
    lines += [f"{name:11}{state}" for name, state in found.jobs.items()]
    shown = [shard for shard in found.shards if shard.state in (RUNNING, FAILED) or shard.reason]
    for shard in shown[:_MOST_LINES]:
        tries = f", attempt {shard.attempts}" if shard.attempts > 1 else ""
        lines.append(
            f"  shard {shard.shard:<5}{shard.state:9}{shard.pages_done} of {shard.pages} pages"
            f"{tries}{shard.where}{': ' + shard.reason if shard.reason else ''}"
        )
    if len(shown) > _MOST_LINES:
        lines.append(f"  and {len(shown) - _MOST_LINES} more; json=true shows all")
    return "\n".join(lines)


def as_json(found: Status) -> str:
    """Return the status for programs."""
    import dataclasses

    more = {"pages_per_second": found.pages_per_second, "seconds_left": found.seconds_left}
    return json.dumps(dataclasses.asdict(found) | more, indent=1, ensure_ascii=False)


# ---- inside ----


def _time(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"


if __name__ == "__main__":
    main()
