"""TLS: the behaviour of transports that were made with an `ssl.SSLContext`."""
