"""The page for the operator at the hub's own port."""
