"""Methods that need no labels: sets on which an encoder is trained."""
