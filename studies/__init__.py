"""Scripts that write docs/studies: ``python -m studies.NAME``."""
