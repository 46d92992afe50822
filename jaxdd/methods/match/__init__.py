"""Methods that match what a network sees of real and of synthetic images: they share `matching`."""
