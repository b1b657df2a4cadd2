"""Text to vector with the release's own encoder: ONNX weights and a tokenizer, both plain data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 128


class Encoder:
    """The encoder of one release; thread-safe."""

    def __init__(self, session: Any, tokenizer: Any) -> None:
        self._session = session
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, model: Path, tokenizer: Path, *, threads: int = 1) -> Self:
        """An encoder from its verified files.

        Args:
            model: ONNX file: (b, s) int64 ids and mask -> (b, d) float32 unit vectors.
            tokenizer: `tokenizers` JSON file.
            threads: CPU threads of one call.
        """
        return cls.of(model.read_bytes(), tokenizer.read_text(), threads=threads)

    @classmethod
    def of(cls, model: bytes, tokenizer: str, *, threads: int = 1) -> Self:
        """An encoder from the contents of its two files."""
        import onnxruntime as ort
        from tokenizers import Tokenizer

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        loaded = Tokenizer.from_str(tokenizer)
        loaded.enable_truncation(MAX_TOKENS)
        loaded.enable_padding()
        return cls(session, loaded)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), d) float32 unit vectors; one call to the model, so bound the batch."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([each.ids for each in encoded], dtype=np.int64)
        mask = np.array([each.attention_mask for each in encoded], dtype=np.int64)
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(vectors, dtype=np.float32)

    def encode_all(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), d) float32 unit vectors in the order given.

        A text a call, as queries are encoded: a vector depends on nothing but its text. In a batch, int8 activations
        share one scale, and a text's vector would change with its neighbours.
        """
        parts = [self.encode([text]) for text in texts]
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
