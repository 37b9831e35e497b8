"""Four programs that turn one declaration into the same times.

`contested` and `events` simulate in SimPy; `recurrence` computes, with `loops` compiled.
"""
