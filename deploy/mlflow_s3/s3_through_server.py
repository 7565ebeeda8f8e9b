"""Files in S3 that clients read and write through the MLflow server alone.

MLflow's own class for S3 makes the server offer presigned addresses of the store: for each download, and for uploads of
500 MB or more. Clients follow such an offer, and can't reach a store that only the server sees. Of a class that can't
presign the server offers none, and everything goes through it.
"""

from __future__ import annotations

from typing import Any

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository


class S3ThroughServer(ArtifactRepository):
    """MLflow's class for S3, without what presigns."""

    def __init__(self, artifact_uri: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(artifact_uri, *args, **kwargs)
        self._s3: ArtifactRepository = S3ArtifactRepository(
            artifact_uri, tracking_uri=self.tracking_uri, registry_uri=self.registry_uri
        )

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Write a file."""
        self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Write a folder's files."""
        self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What is in a folder."""
        return self._s3.list_artifacts(path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._s3._download_file(remote_file_path, local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file or a folder."""
        self._s3.delete_artifacts(artifact_path)
