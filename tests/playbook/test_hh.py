import pytest

from opsctl.config import shipped
from opsctl.playbook import conditions, loader
from opsctl.playbook.schema import Playbook

PROSE = {
    "revoke-pairing": [
        "Look for minted_token in CloudWatch",
        "Watch logs",
        "Set the contact property download_enabled to false",
        "The /lease endpoint will return 403",
        "CloudWatch will show lease_denied",
        "Revoke a pairing code (auto-remint)",
        "Temporarily disable downloads (checkbox No)",
    ],
    "rotate-hh-secrets": [
        "rotated without Lambda redeployment",
        "Rotate HubSpot token",
        "Rotate GHCR PAT",
        "Rotate HubSpot App Secret",
        "Cache TTL is ~5 minutes",
        "To force immediate refresh, publish a new Lambda version or trigger UpdateFunctionCode (usually not needed)",
    ],
    "rotate-edge-secret": [
        "Update the EDGE_SHARED_SECRET environment variable on the hh-authz Lambda",
        "Update releases/installer with the new default value",
        "Re-run hh login (user mode)",
        "Re-run hh login --system (system mode)",
        "Manually edit config files to update the edge_auth field",
        "User mode: ~/.hh/config.json",
        "System mode: /etc/hh/config.json",
    ],
    "user-report": [
        "To mint a token for a contact, toggle the download_requested property to true in HubSpot, or use the simulator",
        "401: Missing X-Edge-Auth header (authorizer)",
        "403: Invalid token or download_enabled=false (Lambda handler)",
        "200: Success",
        "500: Internal Lambda error",
        "502: HubSpot API error",
        "Expect HTTP/2 200 and a lease_ok log",
        "If 403 + invalid-token → wrong/expired code",
        "If 403 + disabled → checkbox is No",
        "If 401 → missing X-Edge-Auth (client misconfigured)",
        "Lease outcomes (24h)",
        "Errors (24h)",
        "HubSpot Webhooks monitor: Projects → Webhooks monitor",
        "Lambda logs: CloudWatch logs for /aws/lambda/hh-webhook and /aws/lambda/hh-lease",
        "Look for structured JSON logs: lease_ok, lease_denied, lease_error",
        "WAF metrics: CloudWatch metrics for rate limiting",
    ],
    "docker-permissions": [
        "System configuration: /etc/hh/config.json (requires sudo, readable by root)",
        "User configuration: ~/.hh/config.json (standard user mode)",
        "User Docker config: ~/.docker/config.json",
        "XDG config: $XDG_CONFIG_HOME/hh/config.json (if XDG_CONFIG_HOME is set)",
        "HH_CONFIG: Override config file path (highest precedence)",
        "XDG_CONFIG_HOME: XDG base directory specification",
        'User reports "permission denied" on docker commands',
        "Preferred solution",
        "sudo usermod -aG docker $USER && newgrp docker",
        "Alternative for CI/hardened environments: Use system mode",
        'hh login --system --code "PAIRING_CODE"',
        "hh download --system",
        "System mode not working",
        "Verify system config exists: sudo cat /etc/hh/config.json",
        "Check credential helper installation: ls -la /usr/local/bin/docker-credential-hh",
        "Verify root Docker config: sudo cat /root/.docker/config.json",
        "Test helper with system config: sudo -E env HH_CONFIG=/etc/hh/config.json docker-credential-hh get",
    ],
}
"""The HH runbook's lines, by the playbook that stands for them."""


def playbook(name: str) -> Playbook:
    found, problems = loader.inspect(shipped("playbooks") / f"{name}.yaml")
    assert problems == []
    assert found is not None
    return found.playbook


def lines(name: str, known: dict[str, str]) -> list[str]:
    """What opsctl itself does of a playbook, in order, with these parameters and answers."""
    return [s.text for s in playbook(name).steps if s.kind != "ask" and conditions.evaluate(s, known)]


@pytest.mark.parametrize("name", PROSE)
def test_every_line_of_the_runbook_has_its_step(name: str) -> None:
    there = "\n".join("\n".join([s.section, *s.items, s.ask or ""]) for s in playbook(name).steps)
    assert [line for line in PROSE[name] if line not in there] == []


@pytest.mark.parametrize("name", PROSE)
def test_every_step_stands_under_a_heading_and_the_playbook_says_what_it_does_to_users(name: str) -> None:
    found = playbook(name)
    assert all(step.section for step in found.steps)
    assert found.about


def test_a_revoked_code_is_replaced_and_the_new_one_is_shown_to_work() -> None:
    done = lines("revoke-pairing", {"then": "pair", "leaked": "elsewhere"})
    assert [line for line in done if line.startswith(("pairing", "lease"))] == ["pairing revoke {contact}", "lease verify {contact}"]


def test_a_contact_that_is_stopped_is_refused_with_the_newest_code_too() -> None:
    done = lines("revoke-pairing", {"then": "stop", "leaked": "elsewhere"})
    assert done.index("downloads disable {contact}") < done.index("pairing revoke {contact}")
    assert done[-1] == "lease verify {contact} --expect 403"


def test_a_leaked_code_that_is_at_hand_is_tried_after_it_was_revoked() -> None:
    done = lines("revoke-pairing", {"then": "pair", "leaked": "at-hand"})
    assert done.index("pairing revoke {contact}") < done.index("lease verify {contact} --code-from {code} --expect 403")


@pytest.mark.parametrize(
    ("why", "refresh", "more"),
    [
        ("due", "wait", ""),
        ("due", "now", " --refresh-now"),
        ("leaked", "wait", " --compromised --refresh-now"),
        ("leaked", "now", " --compromised --refresh-now"),
    ],
)
@pytest.mark.parametrize("which", ["hubspot-token", "ghcr", "hubspot-app-secret"])
def test_a_secret_is_issued_then_rotated_once_then_proven_then_revoked(which: str, why: str, refresh: str, more: str) -> None:
    known = {"which": which, "why": why, "refresh": refresh}
    taken = [s for s in playbook("rotate-hh-secrets").steps if conditions.evaluate(s, known)]
    assert [s.text for s in taken if s.kind == "run"] == [f"secrets rotate {{which}} --value-from {{from}}{more}"]
    assert next(s.section for s in taken if s.kind == "ask") == "Have it issued"
    assert taken[-2].text.startswith("Revoke the old value")
    assert (taken[-1].kind, taken[-1].text) == ("verify", "secrets verify {which}")
    kinds = [s.kind for s in taken]
    assert kinds.index("run") < kinds.index("verify") < len(kinds) - 1


@pytest.mark.parametrize("why", ["due", "leaked"])
def test_the_installer_is_asked_about_before_the_edge_secret_changes_once(why: str) -> None:
    steps = [s for s in playbook("rotate-edge-secret").steps if conditions.evaluate(s, {"why": why})]
    (rotated,) = (number for number, step in enumerate(steps) if step.kind == "run")
    assert ("--compromised" in steps[rotated].text) == (why == "leaked")
    assert steps[0].kind == "ask"
    assert "installer" in steps[0].text
    assert "hh login" in " ".join(step.text for step in steps[rotated:])


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        ({"seen": "nothing-yet"}, ["lease verify {contact}"]),
        ({"seen": "wrong-code", "code": "same"}, ["pairing mint {contact}", "lease verify {contact}"]),
        ({"seen": "wrong-code", "code": "another"}, ["lease verify {contact}"]),
        ({"seen": "disabled", "meant": "yes"}, ["downloads enable {contact}", "lease verify {contact}"]),
        ({"seen": "disabled", "meant": "no"}, ["lease verify {contact} --expect 403"]),
        ({"seen": "502"}, ["lease verify {contact}"]),
    ],
)
def test_a_report_is_mended_by_its_cause_and_then_proven(known: dict[str, str], changes: list[str]) -> None:
    taken = [s for s in playbook("user-report").steps if conditions.evaluate(s, known)]
    assert [s.text for s in taken if s.kind == "run"] == changes[:-1]
    assert [s.text for s in taken if s.text.startswith("lease")] == changes[-1:]
    assert [s.kind for s in taken if s.text.startswith("lease")] == ["verify"]


@pytest.mark.parametrize("mode", ["user", "system"])
def test_docker_is_mended_by_the_customer_and_then_examined_in_that_mode(mode: str) -> None:
    assert lines("docker-permissions", {"mode": mode}) == ["client show", f"client doctor --{mode}"]
    assert all(step.kind != "run" for step in playbook("docker-permissions").steps)
