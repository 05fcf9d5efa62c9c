"""Answers by a vision-language model through vLLM, in processes of its own."""
