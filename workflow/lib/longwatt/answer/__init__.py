"""Say which cell to take, and what that rests on."""
