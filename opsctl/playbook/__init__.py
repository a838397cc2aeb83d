"""Procedures whose steps are command lines and checklist items: their schema, how they are read and checked, and how they are run."""
