"""This machine's GPUs, and leases of them."""
