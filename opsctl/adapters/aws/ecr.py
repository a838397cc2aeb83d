"""Amazon ECR: the digest behind an image's tag."""

from __future__ import annotations

import re

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter
from opsctl.errors import NotFound

# HOST/REPOSITORY[:TAG][@DIGEST]; the host has one name for IPv4, one for IPv6 too (dkr-ecr, on.aws), each also for FIPS, and a suffix
# by the partition (AWS, "Amazon ECR endpoints and quotas", "Using dual-stack endpoints").
SUFFIXES = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "on.amazonwebservices.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
)
ANY_SUFFIX = "|".join(map(re.escape, SUFFIXES))
HOST = re.compile(
    rf"(?P<registry>\d{{12}})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z]+(?:-[a-z]+)+-\d+)\.(?:{ANY_SUFFIX})",
    re.ASCII,
)
IMAGE = re.compile(
    r"(?P<host>[\w.-]+(?::\d+)?)/(?P<repository>[\w./-]+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?", re.ASCII
)
PINNED = re.compile(r".+@(sha256:[0-9a-f]{64})", re.ASCII)


class Ecr(Adapter):
    """Images in any ECR registry that the caller may read."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def digest(self, image: str) -> str | None:
        """The current digest of `image`: its own if it is pinned, None if it is not in a known ECR repository.

        Raises NotFound when the repository has no such tag, so that a new task can't start.
        """
        if pinned := PINNED.fullmatch(image):
            return pinned[1]
        match = IMAGE.fullmatch(image)
        host = match and HOST.fullmatch(match["host"])
        if not (match and host):
            return None
        try:
            return self._tagged(host["registry"], host["region"], match["repository"], match["tag"] or "latest")
        except NotFound as cause:
            if "ImageNotFound" in _code(cause):
                raise NotFound(
                    f"The image {image} is no longer in its repository, so no new task can start.",
                    "Push that tag again, or deploy another one first.",
                ) from cause
            return None

    def _tagged(self, registry: str, region: str, repository: str, tag: str) -> str:
        wanted = {"registryId": registry, "repositoryName": repository, "imageIds": [{"imageTag": tag}]}
        answer = self._aws.call("ecr", "describe_images", region=region, **wanted)
        return str(answer["imageDetails"][0]["imageDigest"])


def _code(error: NotFound) -> str:
    """AWS's own code behind a translated error."""
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
