"""`opsctl protection`: Shield and the firewall."""

from __future__ import annotations

from opsctl.cli import group

protection = group("protection")
