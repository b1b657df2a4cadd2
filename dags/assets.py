"""Every asset, named once."""

from airflow.sdk import Asset, AssetWatcher


def raw(table: str) -> Asset:
    """`raw/<table>` of the shop."""
    return Asset(name=f"raw_{table}", uri=f"mercato://raw/{table}", group="data")


def dropped_files(watchers: list[AssetWatcher]) -> Asset:
    """The files of the shop's drop folders, and what watches them."""
    return Asset(name="dropped_files", uri="mercato://sources/dropped", group="data", watchers=watchers)


def clean(table: str) -> Asset:
    """`clean/<table>` of the shop."""
    return Asset(name=f"clean_{table}", uri=f"mercato://clean/{table}", group="data")


def dataset(name: str) -> Asset:
    """`datasets/<name>` of the shop."""
    return Asset(name=name, uri=f"mercato://datasets/{name}", group="datasets")


FEATURE_SNAPSHOTS = Asset(name="feature_snapshots", uri="mercato://features/snapshots", group="features")
POPULARITY = Asset(name="popularity", uri="mercato://features/popularity", group="features")
ONLINE_FEATURES = Asset(name="online_features", uri="mercato://features/online", group="features")

RETRIEVAL = {
    model: Asset(name=model, uri=f"mercato://artefacts/{model}", group="artefacts")
    for model in ("als", "ease", "user_knn", "co_purchase")
}
ENCODER_CHOICE = Asset(name="encoder_choice", uri="mercato://artefacts/encoder_choice", group="artefacts")
PRODUCT_EMBEDDINGS = Asset(name="product_embeddings", uri="mercato://artefacts/product_embeddings", group="artefacts")
PRODUCT_INDEX = Asset(name="product_index", uri="mercato://artefacts/product_index", group="artefacts")
RANKERS = {
    goal: Asset(name=f"ranker_{goal}", uri=f"mercato://artefacts/ranker_{goal}", group="artefacts")
    for goal in ("all", "novel")
}
ANNOTATION_TASKS = Asset(name="annotation_tasks", uri="mercato://annotation/batches", group="annotation")
INTENT = Asset(name="intent", uri="mercato://artefacts/intent", group="artefacts")
RELEASE = Asset(name="release", uri="mercato://releases", group="releases")
DRIFT_REPORT = Asset(name="drift_report", uri="mercato://reports/drift", group="reports")
