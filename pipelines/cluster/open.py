"""The cluster that the settings name."""

from pipelines.cluster.base import Cluster
from pipelines.cluster.local import LocalCluster
from registry.settings import Settings


def open_cluster(settings: Settings) -> Cluster:
    """Starts nothing yet. Raises ClusterError where what the backend needs is not installed."""
    if settings.cluster == "local":
        return LocalCluster(settings)
    from pipelines.cluster.ray.cluster import RayCluster  # the other backend never needs it

    return RayCluster(settings.ray_address)
