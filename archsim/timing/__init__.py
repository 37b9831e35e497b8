"""The clock: one declaration of stages and resources, and the engine that runs it."""
