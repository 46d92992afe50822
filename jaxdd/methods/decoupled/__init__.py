"""Methods that train a teacher first, and recover images from it alone."""
