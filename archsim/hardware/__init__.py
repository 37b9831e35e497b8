"""What to build: the sections of a hardware description put together, loaded and shown."""
