"""Ask about an image without a server: vLLM is loaded for this run, on the GPUs of this machine.

python docs/examples/offline_image.py data/samples/bar-ABC-exif-rot6.jpg \
    '{"model.path": "/models/pixtral-large"}'
"""

import json
import sys

import pipeline


def main(image: str, settings: str = "{}") -> None:
    run = pipeline.answer(
        image,
        question="What is the value of B?",
        engine="vllm",
        output="output/examples/offline-image",
        settings=json.loads(settings),
    )
    print(run.answers[["source", "question", "answer", "confidence", "status"]].to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
