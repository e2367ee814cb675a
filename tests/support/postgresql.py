"""A PostgreSQL server in a temporary folder, with TLS or without."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.peers.programs import missing, program, reserved_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.certificates import PeerCertificates

SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = off
max_connections = 50
log_destination = stderr
"""
AUTHENTICATION = """
host all all 127.0.0.1/32 scram-sha-256
local all all trust
"""
SETTINGS_OF_TLS = """
ssl = on
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server.pem'
ssl_ca_file = '{folder}/authority.pem'
"""
AUTHENTICATION_OF_TLS = """
hostssl all tester 127.0.0.1/32 scram-sha-256
hostssl all client 127.0.0.1/32 cert
hostnossl all all 127.0.0.1/32 reject
local all all trust
"""


def unprivileged() -> dict[str, Any]:
    """Who the server runs as, for subprocess: it refuses to run as root, so then as Debian's package has it."""
    if os.getuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        missing("the user postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Server:
    """A server in a folder of its own. The role `tester` has a password, the role `client` a certificate."""

    def __init__(self, folder: Path, tls: PeerCertificates | None) -> None:
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self.initdb, self.postgres, self.psql = (program(name, *versions) for name in ("initdb", "postgres", "psql"))
        self.folder = folder
        self.port = reserved_port()
        self.how = {"cwd": folder, "stdin": subprocess.DEVNULL, **unprivileged()}
        self.process: subprocess.Popen[bytes] | None = None
        self.settings, self.authentication = SETTINGS, AUTHENTICATION
        if tls is not None:
            self.settings, self.authentication = SETTINGS + SETTINGS_OF_TLS, AUTHENTICATION_OF_TLS
            for name, source in (("server.pem", "localhost"), ("authority.pem", "authority")):
                shutil.copyfile(tls.path(source), folder / name)
                (folder / name).chmod(0o600)
        if "user" in self.how:
            for path in (folder, *folder.iterdir()):
                os.chown(path, self.how["user"], self.how["group"])

    def make(self) -> None:
        data = self.folder / "data"
        options = ("-U", "owner", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        subprocess.run([self.initdb, "-D", str(data), *options], check=True, stdout=subprocess.DEVNULL, **self.how)
        with open(data / "postgresql.conf", "a") as file:
            file.write(self.settings.format(port=self.port, folder=self.folder))
        (data / "pg_hba.conf").write_text(self.authentication)

    def start(self) -> None:
        with open(self.folder / "log", "wb") as log:
            command = [self.postgres, "-D", str(self.folder / "data")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.how)
        while not self.run("SELECT 1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            assert self.process.poll() is None, (self.folder / "log").read_text()
        assert self.run("CREATE ROLE tester LOGIN PASSWORD 'secret'; CREATE ROLE client LOGIN")
        assert self.run("GRANT CREATE ON SCHEMA public TO tester")

    def run(self, statement: str, **outputs: Any) -> bool:
        """Whether a statement succeeds that is the owner's."""
        command = [self.psql, "-q", "-h", str(self.folder), "-p", str(self.port), "-U", "owner", "-d", "postgres"]
        return subprocess.run([*command, "-c", statement], **outputs, **self.how).returncode == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)  # which saves nothing and waits for nobody
            self.process.wait()


@contextlib.contextmanager
def database_server(tls: PeerCertificates | None = None) -> Iterator[Server]:
    """A server that runs while the block does, with TLS only if certificates are given."""
    # Not in pytest's folders, which are the present user's alone.
    folder = Path(tempfile.mkdtemp(prefix="ironloop-postgresql."))
    try:
        server = Server(folder, tls)
        server.make()
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
