"""GPUs: a fitted model of decode attention, measurements, and measuring your own.

Knows `archsim.config` only.
"""
