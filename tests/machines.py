"""A customer's machine as a folder, on which all is well in both modes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from opsctl.adapters.host.machine import Group, Machine

OLD = "the-old-edge-secret"


def built(root: Path, uid: int | None = None, **given: object) -> Machine:
    """A machine on which all is well in both modes, for whoever runs the tests."""
    for folder in ("home/.hh", "etc/hh"):
        (root / folder).mkdir(parents=True)
        (root / folder / "config.json").write_text(json.dumps({"edge_auth": OLD}))
        (root / folder / "config.json").chmod(0o600)
    for folder in ("home/.docker", "root/.docker"):
        (root / folder).mkdir(parents=True)
        (root / folder / "config.json").write_text('{"credHelpers": {"ghcr.io": "hh"}}')
    (root / "bin").mkdir()
    (root / "bin/docker-credential-hh").write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username":"u","Secret":"ghp_never_shown"}\'\n')
    (root / "bin/docker-credential-hh").chmod(0o755)
    who = os.geteuid() if uid is None else uid
    usual = {"user": "jo", "uid": who, "groups": frozenset({999}), "docker_group": Group(999, frozenset({"jo"}))}
    places = {"home": root / "home", "etc": root / "etc", "root_home": root / "root", "programs": root / "bin"}
    return Machine(**{**usual, **places, "variables": dict(os.environ), "socket": root / "none", **given})  # type: ignore[arg-type]
