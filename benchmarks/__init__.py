"""What archsim costs, in ratios measured in one run: ``python -m benchmarks``."""
