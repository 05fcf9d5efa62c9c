"""A server of the protocol in the place of vLLM, for which these tests have no time: it counts exactly.

python tests/slurm/stand_in.py … --host HOST --port PORT
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
import protocol
from protocol import Asked, Behaviour

from pipeline.compose import compose_settings

REPLY = '{"answer":"Ada","pages":[1],"quote":"written by Ada"}'


def main() -> None:
    port = int(sys.argv[sys.argv.index("--port") + 1])
    model = compose_settings(["input=.", f"output={os.environ['TMPDIR']}"]).model

    def says(asked: Asked) -> object:
        return protocol.reply(REPLY, prompt_tokens=protocol.count_prompt(asked, model))

    protocol.ProtocolServer(Behaviour(key=os.environ.get("VLLM_API_KEY"), says=says), port)  # type: ignore[arg-type]
    threading.Event().wait()


if __name__ == "__main__":
    main()
