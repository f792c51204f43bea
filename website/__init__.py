"""The documentation as a website, and the pages of its reference that code writes."""
