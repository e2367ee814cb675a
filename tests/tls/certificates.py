"""Certificates for the tests, made once a session with the openssl command line, and contexts that use them.

The command line and not a package: a package would bring a second OpenSSL into the process under test, and may
switch the interpreter lock of a free-threaded Python on.
"""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

PASSPHRASE = "open sesame"

AUTHORITY = """
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
LEAF = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = {usage}
subjectAltName = {names}
"""
SERVERS = {
    "localhost": "DNS:localhost, IP:127.0.0.1",
    "first": "DNS:first.test",
    "second": "DNS:second.test",
    "expired": "DNS:localhost, IP:127.0.0.1",
}


class Certificates:
    """A folder with an authority, what it signed, and a certificate that signed itself.

    Each is one PEM file of a key and a certificate: the servers `localhost`, `first`, `second` and `expired`;
    `client`; `stranger`, which signed itself; `locked`, which is `localhost` with an encrypted key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._issue("authority", AUTHORITY, signer=None)
        for name, names in SERVERS.items():
            days = -1 if name == "expired" else 30
            self._issue(name, LEAF.format(usage="serverAuth", names=names), signer="authority", days=days)
        self._issue("client", LEAF.format(usage="clientAuth", names="DNS:client.test"), signer="authority")
        self._issue("stranger", LEAF.format(usage="serverAuth", names=SERVERS["localhost"]), signer=None)
        self._openssl(
            *("pkcs8", "-topk8", "-in", "localhost.key", "-out", "locked.key"),
            *("-v2", "aes-256-cbc", "-passout", f"pass:{PASSPHRASE}"),
        )
        self._join("locked", key="locked.key", certificate="localhost.crt")

    def path(self, name: str) -> str:
        """The file with key and certificate of that name; the authority's has no key."""
        return str(self.folder / f"{name}.pem")

    def server_context(self, name: str = "localhost") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(name), password=PASSPHRASE)
        return context

    def client_context(self, name: str | None = None) -> ssl.SSLContext:
        """Trusts the authority and nobody else; shows the certificate of that name if asked for one."""
        context = ssl.create_default_context(cafile=self.path("authority"))
        if name is not None:
            context.load_cert_chain(self.path(name))
        return context

    def strict_server_context(self, mode: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
        """Asks the clients for a certificate."""
        context = self.server_context()
        context.verify_mode = mode
        context.load_verify_locations(self.path("authority"))
        return context

    def _issue(self, name: str, extensions: str, signer: str | None, days: int = 30) -> None:
        (self.folder / f"{name}.ext").write_text(extensions)
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        subject = ("-subj", f"/O=ironloop/CN={name}", "-config", "/dev/null")
        self._openssl("req", "-new", "-key", f"{name}.key", "-out", f"{name}.csr", *subject)
        signed_by = ["-signkey", f"{name}.key"]
        if signer is not None:
            signed_by = ["-CA", f"{signer}.crt", "-CAkey", f"{signer}.key", "-CAcreateserial"]
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", "-sha256"),
            *("-days", str(days), "-extfile", f"{name}.ext", *signed_by),
        )
        self._join(name, key=None if name == "authority" else f"{name}.key", certificate=f"{name}.crt")

    def _join(self, name: str, key: str | None, certificate: str) -> None:
        parts = [(self.folder / part).read_text() for part in (key, certificate) if part is not None]
        (self.folder / f"{name}.pem").write_text("".join(parts))

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr}"
