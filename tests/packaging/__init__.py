"""What is shipped: the package as it is imported, the wheels, and the systems that there are none for."""
