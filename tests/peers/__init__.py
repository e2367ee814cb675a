"""TLS with programs and packages that others wrote, over loopback: openssl, curl, nginx, PostgreSQL, aiohttp, httpx."""
