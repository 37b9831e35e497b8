"""The accelerator's figures as the paper gives them, for tests that need no simulation."""

from __future__ import annotations

from archsim.comparison.accelerator import AcceleratorFigures

PAPER = AcceleratorFigures(
    name="gaincell",
    workload="calibration",
    attention_latency_s=65e-9,
    energy_per_token_j=73.8e-9,
    area_m2=6e-6,
    boundary_bytes=2496,
    layers=1,
    heads=12,
    head_dim=64,
    window=1024,
    protocol_note="the paper's figures",
)
