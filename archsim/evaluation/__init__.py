"""Published figures beside ours, and the workload they are compared on."""
