"""The documentation: its code runs, its links lead somewhere, its pages look as they should."""
