"""Other extensions on the loop: what examples/extension and the C of docs/extensions.md do."""
