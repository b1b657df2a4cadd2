"""Registration only: links from Airflow to the shop's page, MLflow and the drift reports."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from mercato.settings import Settings


def views() -> list[dict[str, Any]]:
    """Airflow's external views, one per link that is set."""
    settings = Settings()
    named = {"Shop page": settings.url, "MLflow": settings.mlflow_ui_url, "Drift reports": settings.drift_ui_url}
    return [{"name": name, "href": href, "destination": "nav"} for name, href in named.items() if href]


class MercatoPlugin(AirflowPlugin):
    """Registers the links."""

    name = "mercato"
    external_views = views()
