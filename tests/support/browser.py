"""Headless Chromium: opens a page of ours, which looks at others and posts what it sees back, as JSON."""

from __future__ import annotations

import functools
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from tests.peers.programs import skip_or_fail

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 55.0


class Handler(http.server.SimpleHTTPRequestHandler):
    """The folder `directory`, and what is in `server.answers`; what is posted goes into `server.posted`."""

    def do_GET(self):
        answer = self.server.answers.get(self.path)
        if answer is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if answer[:1] == b"{" else "text/html")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self):
        self.server.posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def found_browser() -> str:
    """The browser that a test cannot do without."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        skip_or_fail("needs Chromium")
    return found


def look(page: str, directory: Path, profile: Path, answers: dict[str, bytes] | None = None) -> Any:
    """What the HTML `page` posts, opened beside the files of `directory` and the `answers`, by their paths."""
    handler = functools.partial(Handler, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.answers = {"/look.html": page.encode(), **(answers or {})}
        server.posted = queue.Queue()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            found_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={profile}", "--remote-debugging-port=0",
            f"http://127.0.0.1:{server.server_port}/look.html",
        ]  # fmt: skip
        # Debian's is a script, which would not take the browser along.
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        with subprocess.Popen(command, **options) as running:
            try:
                return server.posted.get(timeout=PATIENCE)
            finally:
                os.killpg(running.pid, signal.SIGTERM)
                server.shutdown()
