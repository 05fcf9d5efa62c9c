"""Ask a vLLM server about an image, as on Pixtral-Large's model card; the answer is a row with its evidence.

vllm serve mistralai/Pixtral-Large-Instruct-2411 --config-format mistral --load-format mistral \
    --tokenizer-mode mistral --limit-mm-per-prompt '{"image": 30}' --tensor-parallel-size 8
python docs/examples/server_image.py http://localhost:8000/v1 data/samples/bar-ABC-exif-rot6.jpg
"""

import json
import sys

import pipeline


def main(url: str, image: str, settings: str = "{}") -> None:
    run = pipeline.answer(
        image,
        question="What is the value of B?",
        engine="server",
        output="output/examples/server-image",
        settings={"engine.urls": [url], **json.loads(settings)},
    )
    print(run.answers[["source", "question", "answer", "confidence", "status"]].to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
