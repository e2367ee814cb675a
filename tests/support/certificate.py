"""A self-signed certificate for localhost and 127.0.0.1, valid until 2126, and contexts that use it. Not a secret."""

from __future__ import annotations

import pathlib
import ssl
import tempfile

# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
#   -addext subjectAltName=DNS:localhost,IP:127.0.0.1
PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgq3W9LS1afDLsnLuY
QmwVc2PbCwmHnVficTRrBuTqWQ+hRANCAAQNQ8v8JRYiHalCbFFfjRgY5jDzXYyb
WTOWj1PraBbSVRJbbH1e0VEX/V8fnROLqfGTbHXG6lFl6/BA75zW/TWz
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUfCsqdikMerGIN05miYsxI+F7xI4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTA4NDIxNFoYDzIxMjYxMDI4
MDg0MjE0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQNQ8v8JRYiHalCbFFfjRgY5jDzXYybWTOWj1PraBbSVRJbbH1e0VEX
/V8fnROLqfGTbHXG6lFl6/BA75zW/TWzo28wbTAdBgNVHQ4EFgQUcVVeJPKOGDt7
innWdwxg2RuoxPMwHwYDVR0jBBgwFoAUcVVeJPKOGDt7innWdwxg2RuoxPMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAJxvxqJIJl5hgSEPnV2xlNUbtOikeD6C8PacLPN5cMJ6AiBA
aWE4Ff2OSu3XVqo9d4wWg4g3nSzEIf/WBypVx7EKXA==
-----END CERTIFICATE-----
"""


def write_files(folder: pathlib.Path) -> None:
    """For programs that are told of files: key.pem and certificate.pem."""
    start = PEM.index("-----BEGIN CERTIFICATE")
    (folder / "key.pem").write_text(PEM[:start])
    (folder / "certificate.pem").write_text(PEM[start:])


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "certificate.pem")
        file.write_text(PEM)
        context.load_cert_chain(file)
    return context


def client_context() -> ssl.SSLContext:
    """Trusts the certificate, and nothing else."""
    return ssl.create_default_context(cadata=PEM[PEM.index("-----BEGIN CERTIFICATE") :])
