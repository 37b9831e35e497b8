"""The numbers: a whole trace through the blocks' transfer functions, as matrix products."""
