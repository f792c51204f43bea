"""One job around its work."""
