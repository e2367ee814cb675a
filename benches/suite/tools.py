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
    """In a folder that is removed at the end."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ironloop-bench-"))

    def close(self) -> None:
        shutil.rmtree(self.folder)

    @functools.cache  # noqa: B019
    def program(self, name: str) -> str:
        path = str(self.folder / name)
        subprocess.run(["cc", "-O2", str(TLS / f"{name}.c"), "-o", path, "-lssl", "-lcrypto"], check=True)
        return path

    @functools.cache  # noqa: B019
    def certificate(self, kind: str) -> tuple[str, str]:
        """(certificate, key)"""
        certificate, key = str(self.folder / f"{kind}.pem"), str(self.folder / f"{kind}-key.pem")
        command = ["openssl", "req", "-x509", "-nodes", "-newkey", *KEYS[kind], "-subj", "/CN=localhost"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return certificate, key
