"""Methods that choose real images and store less of each than all of it."""
