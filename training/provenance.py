"""What made an artefact: the code that ran and the DAG run it ran in."""

import hashlib
import os
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("data_contracts", "feature_repo", "mercato", "serving", "training")
COMPUTING = (
    "duckdb", "faiss-cpu", "ibis-framework", "implicit", "lightgbm", "numpy", "onnx", "onnxruntime", "pandas",
    "pyarrow", "scipy", "torch",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[1]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """First 12 hex digits of SHA-256 over every source file of ours that decides what is trained or served."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.suffix in {".py", ".yaml"}:
                digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1)
def code_revision() -> str:
    """Git commit where there is one, and the digest of the files themselves: `1a2b3c4d+5e6f…`."""
    try:
        found = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(_ROOT), "rev-parse", "--short=12", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found = "no-git"
    return f"{found}+{code_digest()}"


@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    """Version of each package whose arithmetic decides the bytes of an artefact."""
    return {name: version(name) for name in COMPUTING}


def dag_run() -> str:
    """`dag_id/run_id` of the Airflow run that this process works for; empty outside Airflow."""
    dag_id, run_id = os.environ.get("AIRFLOW_CTX_DAG_ID"), os.environ.get("AIRFLOW_CTX_DAG_RUN_ID")
    return f"{dag_id}/{run_id}" if dag_id and run_id else ""
