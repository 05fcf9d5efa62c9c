"""Ask a vLLM server a question of text alone; the system prompt tells the model what day it is.

python docs/examples/server_text.py http://localhost:8000/v1
"""

import json
import sys

import pipeline


def main(url: str, settings: str = "{}") -> None:
    reply = pipeline.ask(
        "Which day was it yesterday, and how many days are left of this year?",
        engine="server",
        settings={"engine.urls": [url], **json.loads(settings)},
    )
    print(reply)


if __name__ == "__main__":
    main(*sys.argv[1:])
