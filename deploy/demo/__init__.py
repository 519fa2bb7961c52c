"""The demo: a real broker and both nodes on one machine, and a story told on the terminal."""
