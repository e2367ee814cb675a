"""The certificates of the TLS tests, and one with an RSA key, for which what peers do differs most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.tls.certificates import LEAF, SERVERS, Certificates

if TYPE_CHECKING:
    from pathlib import Path


class PeerCertificates(Certificates):
    """Also `rsa`, which is `localhost` with an RSA key of 2048 bits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "rsa.ext").write_text(LEAF.format(usage="serverAuth", names=SERVERS["localhost"]))
        self._openssl(
            *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "rsa.key", "-out", "rsa.csr"),
            *("-subj", "/O=ironloop/CN=rsa", "-config", "/dev/null"),
        )
        self._openssl(
            *("x509", "-req", "-in", "rsa.csr", "-out", "rsa.crt", "-sha256", "-days", "30", "-extfile", "rsa.ext"),
            *("-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial"),
        )
        self._join("rsa", key="rsa.key", certificate="rsa.crt")
