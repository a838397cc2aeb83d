"""The GitHub container registry: whether a personal access token can pull an image."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from opsctl.adapters.base import Adapter
from opsctl.adapters.http.client import Http
from opsctl.errors import ConfigurationError
from opsctl.redaction import Secret

if TYPE_CHECKING:
    from opsctl.adapters.access import Access

ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.list.v2", "docker.distribution.manifest.v2")
)
ISSUED = "It needs a classic personal access token with read:packages: GitHub, Settings, Developer settings."


DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+){0,8}:[0-9a-fA-F]{32,256}")


class _Granted(Struct):
    token: Annotated[str, Meta(min_length=1)]


class Ghcr(Adapter):
    """The registry at its configured base, read-only."""

    def __init__(self, access: Access, base: str) -> None:
        super().__init__(writing=False)
        self._http = Http(base, access.read_only, system="GHCR", login=ISSUED)

    def pull(self, image: str, username: str, pat: Secret) -> str:
        """Return the digest that `image` (`ORG/NAME:TAG`) means, as these credentials see it.

        Raises CredentialsInvalid, Denied or NotFound: everybody gets a token, only the manifest verifies access.
        """
        name, tag = _parts(image)
        login = Secret(f"{username}:{pat.reveal()}")
        basic = Secret(base64.b64encode(login.raw())).reveal()
        wanted = {"service": "ghcr.io", "scope": f"repository:{name}:pull"}
        answer = self._http.ask("GET", "/token", params=wanted, headers={"Authorization": f"Basic {basic}"})
        token = Secret(self._http.read(answer, _Granted).token)
        bearer = {"Authorization": f"Bearer {token.reveal()}", "Accept": ACCEPT}
        digest = self._http.ask("HEAD", f"/v2/{name}/manifests/{tag}", headers=bearer).headers.get("Docker-Content-Digest", "")
        return digest if DIGEST.fullmatch(digest) else ""

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _parts(image: str) -> tuple[str, str]:
    name, at, digest = image.partition("@")
    if not at:
        name, _, digest = image.partition(":")
    if name.count("/") < 1 or name.startswith("ghcr.io/"):
        raise ConfigurationError(f"Expected an image such as ORG/NAME:TAG, got {image!r}.", "Correct `image` of the secret.")
    return name, digest or "latest"
