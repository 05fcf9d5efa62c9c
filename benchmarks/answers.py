"""Score the embedded reader: is the gold answer inside answer and passage, and is the evidence page right?

python benchmarks/answers.py OUTPUT QUESTIONS.csv [-v]

OUTPUT is that of a run with task=qa task.questions=QUESTIONS.csv; -v lists what was missed.
"""

from __future__ import annotations

import re
import sys
import unicodedata

import pandas as pd


def letters(text: str) -> str:
    """Keep letters and digits alone, so that spacing, hyphens and case do not count."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).casefold()


def numbers(text: str) -> set[str]:
    """Return the numbers in a text, without separators of thousands."""
    plain = unicodedata.normalize("NFKC", text)
    return {re.sub(r"[.,\s]", "", n) for n in re.findall(r"\d+(?:[.,\u00a0 ]\d{3})*(?:[.,]\d+)?", plain)}


def holds(passage: object, gold: str, kind: str) -> bool:
    """Tell whether a passage holds the gold answer: as a whole number, or letter by letter."""
    if not isinstance(passage, str):
        return False
    if kind in ("number", "chart") and re.fullmatch(r"[\d.,]+", gold):
        return re.sub(r"[.,]", "", gold) in numbers(passage)
    return letters(gold) in letters(passage)


def main() -> None:
    output, questions = sys.argv[1:3]
    gold = pd.read_csv(questions, dtype=str, keep_default_na=False)
    table = gold.merge(
        pd.read_parquet(f"{output}/answers"), on="question_id", suffixes=("_gold", ""), validate="1:1"
    )
    documents = pd.read_parquet(f"{output}/documents").set_index("source")
    source = documents.loc[table["source"]]
    table["text page"] = source["text_layer_pages"].to_numpy() > 0
    table["language"] = table["source"].str.split("/").str[0]
    for name, column in (("in answer", "answer"), ("in passage", "evidence_quote")):
        judged = zip(table[column], table["answer_gold"], table["answer_type"], strict=True)
        table[name] = pd.Series([holds(*row) for row in judged]).where(table["answer_type"] != "yesno")
    table["right page"] = [
        int(page) in set(pages)
        for page, pages in zip(table["page_gold"], table["evidence_pages"], strict=True)
    ]
    scores = ["in answer", "in passage", "right page"]
    table[scores] = table[scores].astype(float)
    print("characters of an answer, median:", table["answer"].str.len().median(), "\n")
    for by in (["answer_type", "text page"], ["language"]):
        print(table.groupby(by)[scores].agg(["count", "mean"]).round(2).to_string(), "\n")
    if "-v" in sys.argv:
        for row in table[~(table["right page"].eq(1) & table["in answer"].ne(0))].itertuples():
            print(
                row.question_id,
                row.source,
                "page",
                row.page_gold,
                "got",
                list(row.evidence_pages),
                row.question,
            )
            print("   gold:", row.answer_gold, "| got:", str(row.answer)[:250].replace("\n", " "))


if __name__ == "__main__":
    main()
