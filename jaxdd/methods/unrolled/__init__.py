"""Methods that differentiate through training: they share `bilevel`."""
