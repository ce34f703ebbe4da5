"""What a network saw in an image."""
