"""Measures event loops side by side: rows.py says what, loops.py who, session.py in which order."""
