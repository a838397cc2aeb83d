"""The statements for the database and Redis, for opsctl's own connections and for the scripts of --as-shell.

`{name}` is an identifier, `%(name)s` a value. These modules import no vendor SDK.
"""
