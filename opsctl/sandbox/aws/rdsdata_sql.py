"""Between the RDS Data API's shapes and PostgreSQL's: named parameters in, typed fields out."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opsctl.sandbox.aws.wire import AwsError

if TYPE_CHECKING:
    import psycopg

# Strings, quoted names, dollar quotes, comments and casts are left alone; a lone `:name` is a parameter.
_TOKEN = re.compile(
    r"""(?P<skip>'(?:[^']|'')*' | "(?:[^"]|"")*" | (?P<tag>\$\w*\$).*?(?P=tag) | --[^\n]* | /\*.*?\*/ | ::)
    | :(?P<name>[A-Za-z_]\w*) | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)

# PostgreSQL type oid: (name, java.sql.Types code, field key).
_TYPES: dict[int, tuple[str, int, str]] = {
    16: ("bool", -7, "booleanValue"),
    17: ("bytea", -2, "blobValue"),
    20: ("int8", -5, "longValue"),
    21: ("int2", 5, "longValue"),
    23: ("int4", 4, "longValue"),
    25: ("text", 12, "stringValue"),
    26: ("oid", -5, "longValue"),
    114: ("json", 1111, "stringValue"),
    700: ("float4", 7, "doubleValue"),
    701: ("float8", 8, "doubleValue"),
    1043: ("varchar", 12, "stringValue"),
    1082: ("date", 91, "stringValue"),
    1114: ("timestamp", 93, "stringValue"),
    1184: ("timestamptz", 93, "stringValue"),
    1700: ("numeric", 2, "stringValue"),
    2950: ("uuid", 1111, "stringValue"),
    3802: ("jsonb", 1111, "stringValue"),
}
# Array oid: (name of its element type, java.sql.Types code of it, field key).
_ARRAYS: dict[int, tuple[str, int, str]] = {
    1000: ("bool", -7, "booleanValues"),
    1005: ("int2", 5, "longValues"),
    1007: ("int4", 4, "longValues"),
    1016: ("int8", -5, "longValues"),
    1021: ("float4", 7, "doubleValues"),
    1022: ("float8", 8, "doubleValues"),
    1009: ("text", 12, "stringValues"),
    1015: ("varchar", 12, "stringValues"),
}
_TIMESTAMPTZ = 1184
_FIRST_USER_OID = 16384


def bind(sql: str, parameters: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """SQL with psycopg's placeholders, and the values for them.

    Raises AwsError (BadRequestException) for a parameter without a value, a bad value, or several statements at once.
    """
    given = {str(parameter["name"]): _value(parameter) for parameter in parameters}
    used: set[str] = set()
    pieces: list[str] = []
    position = 0
    for token in _TOKEN.finditer(sql):
        pieces.append(sql[position : token.start()].replace("%", "%%"))
        position = token.end()
        if token["end"] and _more_follows(sql[position:]):
            raise AwsError("BadRequestException", "Multistatements aren't supported.")
        name = token["name"]
        if name and name not in given:
            raise AwsError("BadRequestException", f"Named parameter :{name} has no value.")
        if name:
            used.add(name)
        pieces.append(f"%({name})s" if name else token[0].replace("%", "%%"))
    pieces.append(sql[position:].replace("%", "%%"))
    # psycopg reads `%%` as one only where there are values.
    return ("".join(pieces), {name: given[name] for name in used}) if used else (sql, {})


def _more_follows(rest: str) -> bool:
    return bool(re.sub(r"--[^\n]*|/\*.*?\*/|[\s;]", "", rest, flags=re.DOTALL))


def _json(text: str) -> Any:
    from psycopg.types.json import Json

    return Json(json.loads(text))


_HINTS: dict[str, Callable[[str], Any]] = {
    "DATE": datetime.date.fromisoformat,
    "TIME": datetime.time.fromisoformat,
    "TIMESTAMP": datetime.datetime.fromisoformat,
    "DECIMAL": decimal.Decimal,
    "JSON": _json,
    "UUID": uuid.UUID,
}


def _value(parameter: Mapping[str, Any]) -> Any:
    name, field = parameter["name"], parameter.get("value", {})
    hint = parameter.get("typeHint")
    if field.get("isNull"):
        return None
    if "arrayValue" in field:
        raise AwsError("BadRequestException", "Array parameters are not supported.")
    if "stringValue" in field and hint:
        try:
            return _HINTS[hint](field["stringValue"])
        except (KeyError, ValueError, decimal.InvalidOperation) as error:
            raise AwsError("BadRequestException", f"Parameter {name} doesn't fit type hint {hint}.") from error
    return _python_value(str(name), field)


def _python_value(name: str, field: Mapping[str, Any]) -> Any:
    from psycopg.types.numeric import Float8, Int8

    for key, make in (
        ("stringValue", str),
        ("longValue", Int8),
        ("doubleValue", Float8),
        ("booleanValue", bool),
        ("blobValue", base64.b64decode),
    ):
        if key in field:
            return make(field[key])
    raise AwsError("BadRequestException", f"Parameter {name} has no value of a known type.")


def records(cursor: psycopg.Cursor[Any]) -> list[list[dict[str, Any]]]:
    """Every row as typed fields. Raises AwsError (UnsupportedResultException) for a type that AWS doesn't return."""
    result = cursor.pgresult
    if result is None or not result.nfields:
        return []
    oids = [result.ftype(column) for column in range(result.nfields)]
    for oid in oids:
        if oid >= _FIRST_USER_OID:
            message = "The result contains the unsupported data type USER DEFINED. Cast it to text."
            raise AwsError("UnsupportedResultException", message)
    rows = cursor.fetchall() if any(oid in _ARRAYS for oid in oids) else []
    shown = []
    for row in range(result.ntuples):
        fields = []
        for column, oid in enumerate(oids):
            raw = result.get_value(row, column)
            listed = rows[row][column] if oid in _ARRAYS else None
            fields.append({"isNull": True} if raw is None else _field(oid, raw, listed))
        shown.append(fields)
    return shown


def _field(oid: int, raw: bytes, listed: Any) -> dict[str, Any]:
    if oid in _ARRAYS:
        if any(isinstance(item, list) for item in listed):
            message = "The result contains the unsupported data type multidimensional array."
            raise AwsError("UnsupportedResultException", message)
        return {"arrayValue": {_ARRAYS[oid][2]: listed}}
    text = raw.decode()
    key = _TYPES.get(oid, ("", 0, "stringValue"))[2]
    if key == "longValue":
        return {key: int(text)}
    if key == "doubleValue":
        return {key: float(text)}
    if key == "booleanValue":
        return {key: text == "t"}
    if key == "blobValue":
        return {key: base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode()}
    return {"stringValue": text.removesuffix("+00") if oid == _TIMESTAMPTZ else text}


def column_metadata(cursor: psycopg.Cursor[Any]) -> list[dict[str, Any]]:
    """What AWS tells of each column."""
    result = cursor.pgresult
    if result is None:
        return []
    described = []
    for column in range(result.nfields):
        oid = result.ftype(column)
        name, code, _ = _TYPES.get(oid, ("text", 1111, ""))
        if oid in _ARRAYS:
            name, code = f"_{_ARRAYS[oid][0]}", 2003
        label = (result.fname(column) or b"").decode()
        described.append(
            {
                "name": label,
                "label": label,
                "typeName": name,
                "type": code,
                "arrayBaseColumnType": _ARRAYS[oid][1] if oid in _ARRAYS else 0,
                "nullable": 1,
                "precision": 0,
                "scale": 0,
                "schemaName": "",
                "tableName": "",
                "isAutoIncrement": False,
                "isCaseSensitive": code == 12,
                "isCurrency": False,
                "isSigned": code in (-5, 2, 4, 5, 7, 8),
            }
        )
    return described


def formatted(labels: Sequence[str], rows: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Rows as `formatRecordsAs=JSON` gives them: a JSON list of objects."""
    plain = [{label: _unwrap(field) for label, field in zip(labels, row, strict=True)} for row in rows]
    return json.dumps(plain, separators=(",", ":"))


def _unwrap(field: Mapping[str, Any]) -> Any:
    if "isNull" in field:
        return None
    value = next(iter(field.values()))
    return next(iter(value.values())) if isinstance(value, dict) else value
