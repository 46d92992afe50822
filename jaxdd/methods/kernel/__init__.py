"""Methods through kernel ridge regression: of infinite networks, of random ones, and of networks that are trained."""
