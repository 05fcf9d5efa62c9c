"""Answer with vLLM servers that others run: clients of the OpenAI protocol, with vLLM's own options."""
