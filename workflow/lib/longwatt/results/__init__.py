"""From artefacts to one table and judged claims."""
