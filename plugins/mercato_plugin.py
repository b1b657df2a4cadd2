"""Registration only: links from Airflow to the shop's page, MLflow and the drift reports."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin
from pydantic_settings import BaseSettings, SettingsConfigDict

from mercato.settings import Settings


class Links(BaseSettings):
    """Where people look beside Airflow; an empty one is not linked."""

    model_config = SettingsConfigDict(env_prefix="MERCATO_", frozen=True, extra="ignore")

    mlflow_ui_url: str = ""
    """Address of the MLflow UI."""
    drift_ui_url: str = ""
    """Address of the Evidently UI."""


def views() -> list[dict[str, Any]]:
    """Airflow's external views, one per link that is set."""
    links = Links()
    named = {"Shop page": Settings().url, "MLflow": links.mlflow_ui_url, "Drift reports": links.drift_ui_url}
    return [{"name": name, "href": href, "destination": "nav"} for name, href in named.items() if href]


class MercatoPlugin(AirflowPlugin):
    """Registers the links."""

    name = "mercato"
    external_views = views()
