"""What a dataset is, and what several datasets share: atoms drawn from data, and images."""
