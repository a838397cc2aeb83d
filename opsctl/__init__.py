"""opsctl: runbook-as-code for people who run services.

The map of this house, from the door inwards:

    main.py       the entry point
    cli.py        lazy groups, the three kinds of command, how a line is parsed and an error is shown
    commands/     one file a command group: what should be true
    changes/      the kinds of change, one file a system: how to make it true; base.py is the contract
    engine/       plan, guards, runner, locks, undo, ledger: once, for every command
    playbook/     procedures whose steps are command lines and checklist items
    systems.py    the lazy set of adapters, reading or writing
    adapters/     the outside world, one file a system: the only imports of a vendor's SDK
    asking.py     many sources asked at once
    render/       tables, JSON, progress: told what to draw
    config.py     config/<environment>.toml, read and checked whole; settings/ says what may stand in it
    errors.py     every error, and its exit code
    redaction.py  the type of a secret, the list of what must never leave, and the cleaning of foreign text
    secret_patterns.py  what looks like a secret
    sandbox/      the rehearsal world

`opsctl database failover` is `commands/database.py:failover`, `run: database failover` in a playbook,
`#database-failover` in docs/reference.md.
"""

__version__ = "0.1.0"
