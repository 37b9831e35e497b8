"""The chip, one file a block: what a block computes, how long it takes, what it costs, how big.

A query vector passes `pulse_generator` -> `array` of `cell`s -> `converter` -> `array` ->
`converter` -> `accumulator`; keys and values enter through `write_path`; `controller` keeps time;
`head` puts one head together. Every block draws its numbers from its own section of the config.
"""
