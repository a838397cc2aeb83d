from playbook_world import house, tree

__all__ = ["house", "tree"]
