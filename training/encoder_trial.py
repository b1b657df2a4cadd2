"""The candidates of a tuning, each as it would serve: exported, with its vectors of every product text, and scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.runtime.encoder import Encoder
from training import retrieval_quality, search_quality
from training.embeddings import EncoderConfig, encode_texts, export_onnx, quantise
from training.errors import NotEnoughData
from training.golden import FEW_QUERIES
from training.index import semantic_texts
from training.negatives import Texts
from training.search_quality import Judgments
from training.tuning import TuningConfig


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encoder that may ship."""

    name: str
    model: Path
    tokenizer: Path
    vectors: NDArray[np.float32]
    """(texts, d), by this encoder."""

    @property
    def encoder(self) -> Encoder:
        """It, as it serves: one text a call."""
        return Encoder.load(self.model, self.tokenizer)


@dataclass(frozen=True, slots=True)
class Trial:
    """What candidates are compared on."""

    products: pd.DataFrame
    """clean/products with `text`."""
    texts: list[str]
    rows: NDArray[np.int64]
    """Product -> row of its text."""
    judgments: Judgments
    held: Sequence[str]
    """The judged queries that nothing was learned from."""
    config: EncoderConfig

    @classmethod
    def of(cls, products: pd.DataFrame, judgments: Judgments, held: Sequence[str], config: TuningConfig) -> "Trial":
        """The trial of a shop's products.

        Raises:
            NotEnoughData: fewer than FEW_QUERIES held-out queries have something relevant.
        """
        answerable = set(judgments.relevant)
        relevant = [query for query in held if query in answerable]
        if len(relevant) < FEW_QUERIES:
            raise NotEnoughData(
                f"found {len(relevant)} judged queries kept for judging with something relevant, need {FEW_QUERIES}; "
                "extend the golden set"
            )
        told = semantic_texts(products)
        texts = sorted(set(told))
        at = {text: row for row, text in enumerate(texts)}
        encoders = EncoderConfig(base_model=config.base_model, threads=config.threads)
        return cls(
            products.assign(text=told), texts, np.array([at[each] for each in told]), judgments, relevant, encoders
        )

    def untuned(self, folder: Path) -> Candidate:
        """The base model."""
        return self.candidate("un-tuned", self.config.base_model, folder)

    def candidate(self, name: str, base_model: str | Path, folder: Path) -> Candidate:
        """A model exported into `folder`."""
        folder.mkdir()
        files = export_onnx(self.config.model_copy(update={"base_model": str(base_model)}), folder)
        return Candidate(name, *files, encode_texts(self.config, *files, self.texts))

    def int8(self, chosen: Candidate, folder: Path) -> Candidate:
        """The int8 form of a candidate; it encodes the products too, so that index and queries have one encoder."""
        folder.mkdir()
        model = quantise(chosen.model, chosen.tokenizer, folder / "encoder.onnx", self.texts)
        return Candidate(
            "int8", model, chosen.tokenizer, encode_texts(self.config, model, chosen.tokenizer, self.texts)
        )

    def score(self, candidate: Candidate) -> pd.DataFrame:
        """`retrieval_quality.score` of the held-out queries."""
        ids = self.products["product_id"].tolist()
        search = retrieval_quality.exact(candidate.encoder, candidate.vectors, self.rows, ids)
        return retrieval_quality.score(search, self.judgments, self.held)

    def bm25(self) -> pd.DataFrame:
        """The same of stemmed BM25."""
        return retrieval_quality.score(search_quality.bm25(self.products), self.judgments, self.held)

    def over(self, candidate: Candidate) -> Texts:
        """What hard negatives are mined from."""
        kinds = self.products["product_type"].fillna(self.products["category"]).fillna("")
        group = dict(zip(self.products["text"], kinds, strict=True))
        return Texts(self.texts, candidate.vectors, [str(group[text]) for text in self.texts])
