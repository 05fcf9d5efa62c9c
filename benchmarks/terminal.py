"""Draw docs/terminal.svg: what a terminal of 100 columns shows of the sample documents, run for it.

python benchmarks/terminal.py [docs/terminal.svg]
"""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
OUTPUT = "output/demo"
COMMANDS = [
    f"run data/samples task=qa task.questions=data/samples/questions.csv output={OUTPUT}",
    f"status output={OUTPUT}",
    f"report output={OUTPUT}",
]


def shown(arguments: str) -> str:
    """Run a command of docbatch in a terminal; return what stands there at its end."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pipeline.docbatch", *arguments.split()])
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    said = bytearray()
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # so a terminal says that the other end is closed
            break
        if not piece:
            break
        said += piece
    os.waitpid(process, 0)
    lines = said.decode(errors="replace").replace("\r\n", "\n").split("\n")
    # A line that was drawn again and again stands there as it was drawn last.
    return "\n".join(
        [part for part in line.split("\r") if part.strip()][-1:][0] if line.strip() else "" for line in lines
    )


def main() -> None:
    to = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/terminal.svg")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command in COMMANDS:
        console.print(Text(f"$ docbatch {command}", style="bold green"))
        console.print(Text.from_ansi(shown(command).rstrip()))
        console.print()
    drawn = console.export_svg(title="docbatch")
    # Fonts of elsewhere would be asked for by whoever looks at it.
    drawn = re.sub(r"<!--.*?-->", "", drawn)
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    to.write_text(drawn.replace("Fira Code", "DejaVu Sans Mono"), encoding="utf-8")


if __name__ == "__main__":
    main()
