"""S3 as moto's server speaks it, on a port of this machine."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    from werkzeug.serving import make_server

    given = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    kept = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    server = make_server(
        "127.0.0.1", 0, moto.DomainDispatcherApplication(moto.create_backend_app), threaded=True
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    request = urllib.request.Request(f"{endpoint}/bucket", method="PUT", headers={"Host": "s3.amazonaws.com"})
    urllib.request.urlopen(request).close()
    yield f"s3://bucket/prefix?region=us-east-1&endpoint={endpoint}"
    server.shutdown()
    thread.join()
    server.server_close()
    for name, value in kept.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
