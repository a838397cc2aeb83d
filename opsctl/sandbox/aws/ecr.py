"""ECR: repositories whose tags mean a digest, and can be moved to another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.names import ACCOUNT
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

_REGISTRY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
# Each registry answers to several names.
_HOST = re.compile(rf"^{ACCOUNT}\.dkr[.-]ecr(-fips)?\.us-east-1\.(amazonaws\.com|on\.aws)/")


class FakeEcr:
    """Repositories, tags and digests; nothing of it is moto's."""

    def __init__(self) -> None:
        self._tags: dict[str, dict[str, str]] = {}
        self._pushed: dict[str, float] = {}
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "DescribeImages": self._describe_images,
            "DescribeRepositories": self._describe_repositories,
            "ListImages": self._list_images,
        }

    def push(self, repository: str, tag: str, digest: str, pushed_at: float) -> None:
        """Have `tag` mean `digest` (`sha256:<hex>`) from now on."""
        self._tags.setdefault(repository, {})[tag] = digest
        self._pushed.setdefault(digest, pushed_at)

    def digest(self, image: str) -> str:
        """What an image reference means now; a made-up digest for an image of another registry."""
        name, _, tag = _HOST.sub("", image).partition(":")
        return self._tags.get(name, {}).get(tag) or digest_of(image)

    def _repository(self, request: Request) -> tuple[str, dict[str, str]]:
        name = str(request.params.get("repositoryName", ""))
        return name, self._tags_of(name)

    def _tags_of(self, name: str) -> dict[str, str]:
        if name not in self._tags:
            message = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
            raise AwsError("RepositoryNotFoundException", message)
        return self._tags[name]

    def _describe_images(self, request: Request) -> dict[str, Any]:
        name, tags = self._repository(request)
        digests = set(tags.values())
        if wanted := request.params.get("imageIds"):
            digests = {self._match(name, tags, identity) for identity in wanted}
        return {"imageDetails": [self._show(name, tags, digest) for digest in sorted(digests)]}

    def _match(self, name: str, tags: Mapping[str, str], identity: Mapping[str, str]) -> str:
        digest = identity.get("imageDigest") or tags.get(identity.get("imageTag", ""), "")
        if digest not in self._pushed:
            message = f"The image with imageId {dict(identity)} does not exist within the repository with name '{name}'"
            raise AwsError("ImageNotFoundException", message)
        return digest

    def _show(self, name: str, tags: Mapping[str, str], digest: str) -> dict[str, Any]:
        return {
            "registryId": ACCOUNT,
            "repositoryName": name,
            "imageDigest": digest,
            "imageTags": [tag for tag, meant in tags.items() if meant == digest],
            "imagePushedAt": self._pushed[digest],
            "imageSizeInBytes": 84_000_000,
        }

    def _list_images(self, request: Request) -> dict[str, Any]:
        _, tags = self._repository(request)
        return {"imageIds": [{"imageTag": tag, "imageDigest": digest} for tag, digest in tags.items()]}

    def _describe_repositories(self, request: Request) -> dict[str, Any]:
        names = request.params.get("repositoryNames") or list(self._tags)
        shown = []
        for name in names:
            self._tags_of(name)
            shown.append({"repositoryName": name, "registryId": ACCOUNT, "repositoryUri": f"{_REGISTRY}/{name}"})
        return {"repositories": shown}


def digest_of(text: str) -> str:
    """A digest that any text has, for images that nobody built."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
