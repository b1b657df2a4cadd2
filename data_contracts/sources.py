"""The kinds of sources that a shop's YAML can name; `training.adapters` reads them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A piece of a shop's YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageParquet(Part):
    """A Parquet file that an installed Python package brings along."""

    kind: Literal["package_parquet"]
    package: str
    """Import name of the package."""
    path: str
    """File below the package's folder."""


class Files(Part):
    """Local Parquet files."""

    kind: Literal["files"]
    path: str
    """A path or glob; relative to the working directory."""


Source = Annotated[PackageParquet | Files, Field(discriminator="kind")]
