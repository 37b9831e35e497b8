"""What a language model loses on the hardware: the closed loop, its probes, its uncertainty."""
