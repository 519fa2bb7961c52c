"""The schema of this node, revision by revision."""
