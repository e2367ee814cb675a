"""The tests; see conftest.py for how they run on two loops."""
