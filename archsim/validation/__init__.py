"""Published figures, claims and predictions beside ours."""
