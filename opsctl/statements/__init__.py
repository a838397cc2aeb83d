"""The text of what is sent to a database or to Redis, for opsctl's own connections and for the scripts of --as-shell.

`{name}` in a text stands for an identifier, `%(name)s` for a value. These modules import no vendor's SDK.
"""
