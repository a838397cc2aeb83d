"""Playbooks: their schema, loader, linter, preview and executor. A step is a command line or a checklist item."""
