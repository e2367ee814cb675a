"""Random programs of connections, and a judge who keeps accounts: see test_chaos.py."""
