"""Servers for the tests with libraries. tests/peers/programs.py says what happens if one is missing."""

from __future__ import annotations

import multiprocessing.resource_tracker
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.programs import program, reserved_port
from tests.support.postgresql import database_server
from tests.support.servers import serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them are slow, and what the packages call that is deprecated is their own affair."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"))


@pytest.fixture(scope="session")
def redis_server():
    """The port of a Redis that keeps nothing."""
    port = reserved_port()
    with serving([program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""], port):
        yield port


@pytest.fixture(scope="session")
def memcached():
    """The port of a memcached."""
    port = reserved_port()
    command = [program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "root"]
    with serving(command, port):
        yield port


@pytest.fixture(scope="session")
def nats_server():
    """The port of a NATS server."""
    port = reserved_port()
    with serving([program("nats-server"), "-a", "127.0.0.1", "-p", str(port)], port):
        yield port


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory):
    """The port of a RabbitMQ, which guest has the password guest for.

    Erlang's daemon that nodes find each other by is one of its own, too: what RabbitMQ starts otherwise stays behind.
    """
    # That on PATH is a wrapper, which changes to another user.
    server = program("/usr/lib/rabbitmq/bin/rabbitmq-server")
    port, names, between_nodes = reserved_port(), reserved_port(), reserved_port()
    folder = tmp_path_factory.mktemp("rabbitmq")
    environment = {
        **os.environ,
        "HOME": str(folder),  # for Erlang's cookie
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_DIST_PORT": str(between_nodes),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_NODENAME": f"tests{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
    }
    with serving([program("epmd"), "-address", "127.0.0.1", "-port", str(names)], names):
        with serving([server], port, env=environment):
            yield port


@pytest.fixture(scope="session")
def s3():
    """The address of a moto server, which answers as Amazon's services do."""
    port = reserved_port()
    with serving([program("moto_server", Path(sys.executable).parent), "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def postgresql():
    """The port of a PostgreSQL without TLS; the role `tester` has the password `secret`."""
    with database_server() as server:
        yield server.port


@pytest.fixture
def program_output(loop_name, tmp_path):
    """`program_output(text)` runs a program in a process of its own under the loop under test; what it printed."""

    def run(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        launcher = ["-m", "ironloop"] if loop_name == "ironloop" else []
        done = subprocess.run(
            [sys.executable, *launcher, str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=55,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), os.getcwd()])},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def resource_tracker():
    """The process that multiprocessing starts once, with a pipe that is kept."""
    multiprocessing.resource_tracker.ensure_running()
