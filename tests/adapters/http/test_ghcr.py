"""Whether a token can pull an image, as the registry's stand-in sees it."""

from __future__ import annotations

import json

import pytest

from opsctl.errors import ConfigurationError, Denied, ExternalError, NotFound, Unreachable
from opsctl.redaction import Secret, vault

IMAGE = "hh-partner/hh:latest"


def test_a_good_token_sees_the_image(systems, world):
    for fact in ("ghcr_pat", "ghcr_next_pat"):
        assert systems(writing=False).ghcr.pull(IMAGE, "hh-partner", Secret(world[fact])).startswith("sha256:")


def test_a_token_that_is_given_to_anyone_proves_nothing(systems):
    with pytest.raises(Denied, match="manifests/latest") as refused:
        systems(writing=False).ghcr.pull(IMAGE, "hh-partner", Secret("ghp_nonsense_0123456789"))
    assert "nonsense" not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_the_login_is_hidden_in_every_form(systems, server, monkeypatch):
    monkeypatch.setattr(server.RequestHandlerClass, "do_HEAD", server.RequestHandlerClass.handle_any, raising=False)
    server.answers = [(200, {}, json.dumps({"token": "granted-to-anyone"})), (404, {}, "{}")]
    with pytest.raises(NotFound):
        systems(writing=False, replace={'ghcr = "world:ghcr"': f'ghcr = "{server.base}"'}).ghcr.pull(
            IMAGE, "hh-partner", Secret("ghp_0123456789")
        )
    (asked, manifest) = server.seen
    assert asked[1] == "/token?service=ghcr.io&scope=repository%3Ahh-partner%2Fhh%3Apull"
    assert manifest[:2] == ("HEAD", "/v2/hh-partner/hh/manifests/latest")
    assert "application/vnd.oci.image.index.v1+json" in manifest[2]["Accept"]
    for said in (asked[2]["Authorization"], manifest[2]["Authorization"]):
        assert vault.hide(said) == f"{said.partition(' ')[0]} [secret]"


def test_an_answer_without_a_token(systems, server):
    with pytest.raises(ExternalError, match="token"):
        systems(writing=False, replace={'ghcr = "world:ghcr"': f'ghcr = "{server.base}"'}).ghcr.pull(IMAGE, "x", Secret("ghp_0123456789"))


def test_a_registry_that_is_down(systems):
    with pytest.raises(Unreachable):
        systems(writing=False, replace={'ghcr = "world:ghcr"': 'ghcr = "http://127.0.0.1:9"'}).ghcr.pull(
            IMAGE, "x", Secret("ghp_0123456789")
        )


@pytest.mark.parametrize("image", ["hh", "ghcr.io/hh-partner/hh:latest"])
def test_an_image_without_its_organisation(systems, image):
    with pytest.raises(ConfigurationError, match="ORG/NAME:TAG"):
        systems(writing=False).ghcr.pull(image, "x", Secret("ghp_0123456789"))
