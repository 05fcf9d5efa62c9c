"""Run a vLLM server for as long as runs with engine=server need it.

    python -m pipeline.serve registry=/runs/march/registry -- vllm serve MODEL --tokenizer-mode mistral …
    python -m pipeline.run input=pdfs/ engine=server engine.registry=/runs/march/registry

Starts the command behind `--` at a free port, waits until the server is well, and writes its address into the
registry, a folder that its clients see too. Ends the server when the last client is done or dead.

Settings:

    registry=DIR          the folder in which servers and clients find each other
    host=NAME             how clients reach this machine; by itself its host name
    key_variable=DOCBATCH_SERVER_KEY  environment variable with the key that clients have to send
    load_timeout_s=3600   seconds for the server to load
    first_client_s=3600   seconds for the first client to come
    next_client_s=120     seconds without a client after which the last one counts as done
    max_restarts=5        times that a server which died is started again

Exit status: 0 the last client is done, 1 the server could not go on, 75 a signal ended it.
"""

from __future__ import annotations

import logging
import math
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import usage
from pipeline.command import (
    EXIT_INTERRUPTED,
    errors_end_in_a_line,
    ignore_signals,
    log_to_terminal,
    signals_raise,
)
from pipeline.engines.server.serving import Serving, serve
from pipeline.errors import Interrupted, SettingsError

log = logging.getLogger("pipeline")

_DEFAULTS = {
    "registry": "",
    "host": "",
    "key_variable": "DOCBATCH_SERVER_KEY",
    "load_timeout_s": "3600",
    "first_client_s": "3600",
    "next_client_s": "120",
    "max_restarts": "5",
}


def main() -> None:
    """Serve, and exit with what became of it."""
    # What stands behind `--` is the server's: a --help there is not ours.
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    if not own or set(own) & {"--help", "-h", "--version"}:
        usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        given = read(sys.argv[1:])
        log_to_terminal()
        try:
            with signals_raise():
                reason = serve(given)
        except Interrupted as signalled:
            ignore_signals()
            print(f"interrupted by {signalled}: the server is ended", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
    print(f"the server is ended: {reason}")


def read(arguments: Sequence[str]) -> Serving:
    """Read the command line. Raises SettingsError for what is wrong with it."""
    own, command = list(arguments), []
    if "--" in own:
        place = own.index("--")
        own, command = own[:place], own[place + 1 :]
    given = dict(_DEFAULTS)
    for argument in own:
        name, equals, value = argument.partition("=")
        if not equals or name not in given:
            raise SettingsError(f"{argument}: there is no such setting; there are {', '.join(given)}")
        given[name] = value
    if not given["registry"] or not command:
        raise SettingsError("registry=DIR and, behind --, the command of a server are needed")
    return Serving(
        command=command,
        registry=Path(given["registry"]),
        host=given["host"] or socket.gethostname(),
        key_variable=given["key_variable"],
        load_timeout_s=_number(given, "load_timeout_s"),
        first_client_s=_number(given, "first_client_s"),
        next_client_s=_number(given, "next_client_s"),
        max_restarts=_whole_number(given, "max_restarts"),
    )


def _number(given: dict[str, str], name: str) -> float:
    try:
        number = float(given[name])
    except ValueError:
        number = math.nan
    # Of what is not a number no time is ever over, and a server would be waited for without end.
    if not (0 <= number < math.inf):
        raise SettingsError(f"{name}={given[name]}: must be a number, 0 or more")
    return number


def _whole_number(given: dict[str, str], name: str) -> int:
    if not (number := _number(given, name)).is_integer():
        raise SettingsError(f"{name}={given[name]}: must be a whole number")
    return int(number)


if __name__ == "__main__":
    main()
