"""What users' tests and our own share: simulated clusters."""
