"""Design-space exploration: axes, points, workers, a resumable store, Pareto front."""
