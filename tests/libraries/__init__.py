"""Databases, brokers and the libraries that asyncio's tutorials name, on the loop under test and on CPython's."""
