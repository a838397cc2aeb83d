"""How fast: ratios of opsctl to what it replaces, both sides measured in one run. `python -m tests.bench [NAME...]`.

Everything runs from an installed wheel with compiled bytecode (`house`), against a sandbox of its own (`world`). No figure here is a
test: `table` marks what meets its bound, and pytest never collects these files.
"""
