"""Methods that match the way that networks take in training."""
