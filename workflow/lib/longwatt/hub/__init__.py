"""Files of a hub of repositories, and checkpoints wherever they lie."""
