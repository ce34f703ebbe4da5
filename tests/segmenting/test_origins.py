"""Requests that a browser sends for another's page are refused, by Origin, and by Host; HEAD is answered as GET."""

import pytest
from service import png, slow

from segrun.service.origins import Origins

SMALL = png(8, 8, 8 * b"\0        ")
FOREIGN = "http://evil.example"


@pytest.fixture(scope="module")
def service():
    with slow() as service:
        yield service


@pytest.fixture(scope="module")
def allowing():
    with slow(allow_origin=["https://maps.example", "http://intern:8080"]) as service:
        yield service


def test_no_page_from_elsewhere_gets_an_answer(service):
    for origin in (FOREIGN, "null", "https://127.0.0.1.evil.example", f"http://127.0.0.1:{service.port + 1}"):
        answer = service.predict(SMALL, Origin=origin)
        assert answer.status == 403 and "--allow_origin" in answer.error
        assert not any(name.startswith("access-control") for name in answer.headers)
    for host in ("evil.example", f"evil.example:{service.port}", "localhost.evil.example", "x"):
        for path in ("/predict", "/metrics", "/"):
            answer = service.ask("GET", path, Host=host)
            assert answer.status == 403 and f"does not go by the name of '{host}'" in answer.error
    counted = service.ask("GET", "/metrics").body.decode()
    assert 'encnet_requests_total{status="403"} 16\n' in counted


def test_its_own_page_and_programs_are_answered(service):
    for host in (f"127.0.0.1:{service.port}", f"localhost:{service.port}", "[::1]", "10.1.2.3", "encnet.localhost"):
        assert service.predict(SMALL, Host=host).status == 200
        assert service.predict(SMALL, Host=host, Origin=f"http://{host}").status == 200
    with service.connect() as client:       # HTTP/1.0 has none
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_page_that_is_allowed(allowing):
    answer = allowing.predict(SMALL, Origin="https://maps.example")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://maps.example")
    asked = allowing.ask("OPTIONS", "/predict", Origin="https://maps.example", Access_Control_Request_Method="POST",
                         Access_Control_Request_Headers="content-type")
    assert asked.status == 200 and "POST" in asked.headers["access-control-allow-methods"]
    assert allowing.ask("GET", "/healthz", Host="maps.example").status == 200       # as a proxy hands it on
    assert allowing.ask("GET", "/healthz", Host="intern:8080").status == 200
    for origin in (FOREIGN, "http://maps.example", "https://maps.example:444"):
        assert allowing.predict(SMALL, Origin=origin).status == 403


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
def test_head_is_get_without_the_body(service, path):
    found, asked = service.ask("HEAD", path), service.ask("GET", path)
    assert (found.status, found.body) == (200, b"") and asked.body
    assert found.headers["content-type"] == asked.headers["content-type"]
    assert path == "/metrics" or found.headers["content-length"] == asked.headers["content-length"]
    assert service.ask("HEAD", "/predict").status == 405


def test_which_names_and_origins_are_its_own():
    origins = Origins(["https://Maps.Example:443/", "http://[2001:db8::1]:8080"], "Box.Example")
    assert origins.allowed == ["https://maps.example", "http://[2001:db8::1]:8080"]
    for host in ("box.example:8000", "BOX.EXAMPLE", "maps.example", "maps.example.", "[2001:db8::1]:8080", "127.1.2.3"):
        assert origins.refusal(host, None) is None, host
    for host, origin in (("maps.example:443", "https://maps.example"), ("localhost:80", "http://localhost"),
                         ("localhost", "https://localhost"), ("[::1]:8000", "http://[::1]:8000"),
                         ("localhost:8000", "https://maps.example")):
        assert origins.refusal(host, origin) is None, origin
    for host, origin in (("[::1", None), ("localhost:8000", "localhost:8000"), ("localhost", "http://localhost:8000"),
                         ("localhost", ""), ("localhost:x:y", "http://evil")):
        assert origins.refusal(host, origin) is not None, (host, origin)
    assert Origins(["*"]).refusal("evil.example", FOREIGN) is None


@pytest.mark.parametrize("text", ["maps.example", "https://", "ftp://maps.example", "https://maps.example/page", "",
                                  "https://maps.example:x", "https://user@maps.example", "https://maps.example?q"])
def test_what_is_no_origin(text):
    with pytest.raises(ValueError, match="^--allow_origin .*: an origin is http:// or https://"):
        Origins([text])
