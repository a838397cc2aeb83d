"""Amazon ECR: what an image's tag means now."""

from __future__ import annotations

import re

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter
from opsctl.errors import NotFound

# ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY[:TAG][@DIGEST]; China's partition ends in .cn.
IMAGE = re.compile(
    r"(?P<registry>\d{12})\.dkr\.ecr\.(?P<region>[\w-]+)\.amazonaws\.com(?:\.cn)?"
    r"/(?P<repository>[\w./-]+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class Ecr(Adapter):
    """Images in any ECR registry that the caller may read."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def digest(self, image: str) -> str | None:
        """Return the digest that `image` means now: its own when it is pinned by one, None when it isn't a known ECR repository.

        Raises NotFound when the repository is there and the tag isn't: a new task could not start then.
        """
        match = IMAGE.fullmatch(image)
        if not match:
            return None
        if match["digest"]:
            return match["digest"]
        try:
            return self._tagged(match)
        except NotFound as cause:
            if "ImageNotFound" in _code(cause):
                raise NotFound(
                    f"The image {image} is gone from its repository, so no new task could start from it.",
                    "Push that tag again, or deploy another one first.",
                ) from cause
            return None

    def _tagged(self, match: re.Match[str]) -> str:
        answer = self._aws.call(
            "ecr",
            "describe_images",
            region=match["region"],
            registryId=match["registry"],
            repositoryName=match["repository"],
            imageIds=[{"imageTag": match["tag"] or "latest"}],
        )
        return str(answer["imageDetails"][0]["imageDigest"])


def _code(error: NotFound) -> str:
    """AWS's own code behind a translated error."""
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
