"""Quantities with their units."""


def counted(count: int, unit: str) -> str:
    """`1 secret`, `2,000 sessions`: units are kept in the plural."""
    one = {"people": "person", "addresses": "address", "queries": "query"}.get(unit, unit.removesuffix("s"))
    return f"{count:,} {one if count == 1 else unit}"
