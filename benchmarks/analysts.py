"""Measure what analysts do with many answers: load them, count them by three libraries, export them.

python benchmarks/analysts.py FOLDER [--answers 100000]

FOLDER gets an output of that many made-up answers, as `benchmarks/report.py` makes it. Times are of the
processor, of all threads, so that what else runs does not count; memory is the peak of a process that does
this alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import report

_COUNT = "select task, status, count(*) from '{answers}/*.parquet' group by all"
TRIED = {
    "pipeline.load(…).answers": "frame = pipeline.load(output).answers",
    "pandas: status by task": "pd.read_parquet(answers, columns=['task', 'status']).value_counts()",
    "DuckDB: status by task": f'duckdb.sql(f"{_COUNT}").fetchall()',
    "Polars: status by task": "pl.scan_parquet(answers).group_by('task', 'status').len().collect()",
    **{
        f"export format={kind}": f"formats.write(compose_export([f'output={{output}}', 'format={kind}']))"
        for kind in ("csv", "jsonl", "xlsx")
    },
}
_SCRIPT = """
import sys, time
from pathlib import Path
import duckdb, pandas as pd, polars as pl
import pipeline
from pipeline.compose import compose_export
from pipeline.viewing import formats
output = sys.argv[1]
answers = output + "/answers"
begin = time.process_time()
{tried}
took = time.process_time() - begin
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(f"{{took:.2f}} s, {{int(peak) >> 10}} MB")
"""


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("folder", type=Path)
    given.add_argument("--answers", type=int, default=100_000)
    options = given.parse_args()
    output = options.folder / "output"
    if not output.exists():
        report.make(options.folder / "in", output, options.answers)
    for name, tried in TRIED.items():
        command = [sys.executable, "-c", _SCRIPT.format(tried=tried), str(output)]
        print(
            f"{name:28}", subprocess.run(command, capture_output=True, text=True, check=True).stdout, end=""
        )
    for file in sorted((output / "export").iterdir()):
        print(f"{file.name:28} {file.stat().st_size >> 20} MB")


if __name__ == "__main__":
    main()
