"""What proves changes, playbooks and the engine without an outside system: for our tests, and for those of other people."""
