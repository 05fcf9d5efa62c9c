"""How good answers are: metrics, golden sets, scores and what confidence is worth."""
