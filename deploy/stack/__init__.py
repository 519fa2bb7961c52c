"""The whole of it on container engines: what `deploy/compose.yaml` and its siblings run beside the nodes, and what starts them."""
