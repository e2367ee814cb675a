"""Other people's packages on the loop under test; each test skips where its package is missing."""
