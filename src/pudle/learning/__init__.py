"""What better gradients buy: dictionaries learned, images denoised, atoms explained."""
