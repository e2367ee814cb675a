"""What is built for the measurements: the load client, the TLS programs, a certificate of each kind."""

from __future__ import annotations

import functools
import pathlib
import shutil
import subprocess
import tempfile

BENCHES = pathlib.Path(__file__).resolve().parent.parent
TLS = BENCHES / "tls"
KEYS = {"rsa": ["rsa:2048"], "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]}


@functools.cache
def client() -> str:
    """The path of the load client, which has the reference servers too."""
    folder = BENCHES / "client"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--target-dir", "target"], cwd=folder, check=True)
    return str(folder / "target" / "release" / "ironloop-bench-client")


class TlsTools:
    """Programs and certificates by name, made on first use in a folder that is removed at the end."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ironloop-bench-"))

    def close(self) -> None:
        shutil.rmtree(self.folder)

    def program(self, name: str) -> str:
        path = self.folder / name
        if not path.exists():
            source = str(TLS / f"{name}.c")
            subprocess.run(["cc", "-O2", source, "-o", str(path), "-lssl", "-lcrypto"], check=True)
        return str(path)

    def certificate(self, kind: str) -> tuple[str, str]:
        """(certificate, key)"""
        certificate, key = self.folder / f"{kind}.pem", self.folder / f"{kind}-key.pem"
        if not certificate.exists():
            command = ["openssl", "req", "-x509", "-nodes", "-newkey", *KEYS[kind], "-subj", "/CN=localhost"]
            command += ["-keyout", str(key), "-out", str(certificate)]
            subprocess.run(command, check=True, capture_output=True)
        return str(certificate), str(key)
