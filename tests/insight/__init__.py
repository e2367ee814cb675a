"""What the loop shows of itself."""
