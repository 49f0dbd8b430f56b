"""How people on other machines get in: TLS of our own, a public address, a proxy in front."""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from label_support import PASSWORD, missing, serving

from alignloop import cli

pytestmark = pytest.mark.slow
Certificate = tuple[Path, Path]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for label.test and 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        missing("openssl", "apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    return make_certificate(folder, "server")


def make_certificate(folder: Path, name: str) -> Certificate:
    """Made as docs/labelling.md says."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    names = "subjectAltName=DNS:label.test,IP:127.0.0.1"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=label.test", "-addext", names]
    subprocess.run([*words, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    return pem, key


def trusting(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def tls_words(certificate: Certificate) -> list[str]:
    return ["--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1])]


def sign_up(http: httpx2.Client, token: str) -> httpx2.Response:
    body = {"token": token, "name": "ada", "password": PASSWORD}
    return http.post("/api/v1/invitations/accept", json=body)


def test_with_a_certificate_the_server_speaks_tls_itself(
    tmp_path: Path, certificate: Certificate
) -> None:
    where = ["--project", str(tmp_path / "project"), *tls_words(certificate)]
    with serving(*where, trust=trusting(certificate)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with httpx2.Client(
            base_url=server.url, headers={"Origin": server.url}, verify=trusting(certificate)
        ) as http:
            made = sign_up(http, server.invitation)
            assert made.status_code == 200
            cookies = made.headers.get_list("set-cookie")
            assert len(cookies) == 2
            for cookie in cookies:
                assert cookie.startswith("__Host-") and "; Secure" in cookie
            # a cookie for TLS reaches the pages, and changes are accepted from this origin
            assert http.get("/lead/users").status_code == 200
            http.headers["X-CSRF-Token"] = made.json()["csrf"]
            invited = http.post("/api/v1/users", json={"name": "ann"}).json()
            assert invited["link"].startswith(f"{server.url}/invite/")
            plain = http.post(
                "/api/v1/users",
                json={"name": "bob"},
                headers={"Origin": server.url.replace("https", "http")},
            )
            assert plain.status_code == 403
            # no HSTS: an address, and a port of its own
            assert "strict-transport-security" not in made.headers
        with pytest.raises(httpx2.TransportError):
            httpx2.get(server.url.replace("https", "http") + "/login")


def test_other_machines_reach_it_by_its_public_address(
    tmp_path: Path, certificate: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    """All addresses, a name that only the Host header knows, and links that begin with it."""
    folder = str(tmp_path / "project")
    public = "https://label.test:8443"
    words = ["--host", "0.0.0.0", "--public-url", public, *tls_words(certificate)]
    with serving("--project", folder, *words, trust=trusting(certificate)) as server:
        assert server.url == public
        here = f"https://127.0.0.1:{server.port}"
        with httpx2.Client(base_url=here, verify=trusting(certificate)) as http:
            named = {"Host": "label.test:8443"}
            assert http.get("/login", headers=named).status_code == 200
            assert http.get("/login", headers={"Host": "evil.test"}).status_code == 400
            http.headers["Origin"] = public
            made = http.post(
                "/api/v1/invitations/accept",
                json={"token": server.invitation, "name": "ada", "password": PASSWORD},
                headers=named,
            )
            assert made.status_code == 200
            http.headers["X-CSRF-Token"] = made.json()["csrf"]
            cookie = {"Cookie": made.headers["set-cookie"].split(";")[0]}
            # whatever Host a request names, links carry the public address
            for host in ("label.test:8443", "127.0.0.1"):
                asked = http.post(
                    "/api/v1/users", json={"name": "ann"}, headers=cookie | {"Host": host}
                )
                assert asked.json()["link"].startswith(f"{public}/invite/"), asked.text
            other = http.post(
                "/api/v1/users", json={"name": "ann"}, headers=cookie | {"Origin": here}
            )
            assert other.status_code == 403
            assert public in other.json()["fix"]
        capsys.readouterr()
        cli.main(["label", "user", "add", "bob", "--project", folder])
        assert capsys.readouterr().out.startswith(f"{public}/invite/")


def test_links_of_the_command_line_know_the_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "project")
    with serving("--project", folder) as server:
        cli.main(["label", "user", "add", "bob", "--project", folder])
        link = capsys.readouterr().out.split()[0]
        assert link.startswith(f"{server.url}/invite/")
        assert httpx2.get(link).status_code == 200


@pytest.mark.parametrize("wrong", ["another key", "no certificate", "key with a password"])
def test_files_that_do_not_make_tls_are_told(
    tmp_path: Path, certificate: Certificate, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pem, key = certificate
    told = "do not work together"
    if wrong == "another key":
        key = make_certificate(tmp_path, "other")[1]
    elif wrong == "no certificate":
        pem = tmp_path / "text.pem"
        pem.write_text("no certificate")
    else:
        locked, told = tmp_path / "locked.key", "the key has a password"
        words = ["openssl", "pkey", "-in", str(key), "-out", str(locked), "-aes256"]
        subprocess.run([*words, "-passout", "pass:x"], check=True, capture_output=True)
        key = locked
    words = ["label", "serve", "--project", str(tmp_path / "p"), *tls_words((pem, key))]
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


# --- a proxy in front --------------------------------------------------------------------------


def refusals_from(server_url: str, forwarded: Callable[[int], str]) -> list[int]:
    """Wrong logins at one account, each with an X-Forwarded-For of its own."""
    found: list[int] = []
    for n in range(7):
        headers = {"Origin": "https://label.test", "Host": "label.test"}
        headers["X-Forwarded-For"] = forwarded(n)
        body = {"name": "nobody", "password": "wrong"}
        answer = httpx2.post(f"{server_url}/api/v1/login", json=body, headers=headers)
        found.append(answer.status_code)
    return found


def test_a_proxy_says_where_people_come_from_only_if_we_are_told_of_it(tmp_path: Path) -> None:
    public = ["--public-url", "https://label.test"]
    with serving("--project", str(tmp_path / "p"), "--behind-proxy", *public) as server:
        here = f"http://127.0.0.1:{server.port}"
        assert refusals_from(here, lambda n: f"192.0.2.{n}") == [401] * 7
        assert refusals_from(here, lambda _: "198.51.100.1") == [401] * 5 + [429] * 2
        login = httpx2.get(f"{here}/login", headers={"Host": "label.test"})
        assert login.headers["strict-transport-security"] == "max-age=15811200"


def test_a_client_cannot_choose_its_own_address(tmp_path: Path) -> None:
    """Without --behind-proxy the header is a client's word, and counts for nothing."""
    with serving("--project", str(tmp_path / "p")) as server:
        origin = server.url
        found = []
        for n in range(7):
            headers = {"Origin": origin, "X-Forwarded-For": f"192.0.2.{n}"}
            body = {"name": "nobody", "password": "wrong"}
            answer = httpx2.post(f"{origin}/api/v1/login", json=body, headers=headers)
            found.append(answer.status_code)
    assert found == [401] * 5 + [429] * 2


# --- half-open connections ---------------------------------------------------------------------


def seconds_until_closed(port: int, sent: bytes, *, trickle: bytes = b"") -> float:
    """Send half a request, then perhaps a byte now and then; when the server hangs up."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as client:
        client.sendall(sent)
        while time.monotonic() - began < 60:
            try:
                if trickle:
                    client.sendall(trickle)
                if client.recv(4096) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        return time.monotonic() - began


HALF = b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = HALF + b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n"


def test_half_a_request_is_hung_up_on_and_others_are_served(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from alignloop.label.web import patience

    cases: list[tuple[bytes, bytes, float]] = [
        (b"", b"", patience.HEADER_SECONDS),
        (HALF, b"", patience.HEADER_SECONDS),
        (HALF, b"X-Slow: 1\r\n", patience.HEADER_SECONDS),
        (WHOLE, b"", patience.BODY_SECONDS),
        (WHOLE, b"x", patience.BODY_SECONDS),
    ]
    with serving("--project", str(tmp_path / "p")) as server, ThreadPoolExecutor(5) as pool:
        assert server.port is not None
        port = server.port
        asked = [pool.submit(seconds_until_closed, port, a, trickle=b) for a, b, _ in cases]
        # a busy connection is no slow one, however long it lives
        with httpx2.Client() as http:
            until = time.monotonic() + patience.HEADER_SECONDS + 4
            first = None
            while time.monotonic() < until:
                answer = http.get(f"{server.url}/login")
                assert answer.status_code == 200
                stream = answer.extensions["network_stream"]
                local = stream.get_extra_info("client_addr")
                first = first or local
                assert local == first, "the connection was closed between two requests"
                time.sleep(0.2)
        found = [one.result() for one in asked]
    for (_, _, limit), seconds in zip(cases, found, strict=True):
        assert limit - 1 <= seconds <= limit + 10, found


def test_a_large_answer_is_read_at_leisure(tmp_path: Path) -> None:
    """A slow reader that does read is let be; see `PatientConnection` for one that does not."""
    with serving("--project", str(tmp_path / "p")) as server:
        assert server.port is not None
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            host = f"localhost:{server.port}".encode()
            request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: " + host
            client.sendall(request + b"\r\nConnection: close\r\n\r\n")
            whole = b""
            while piece := client.recv(8192):
                whole += piece
                time.sleep(0.05)
    assert whole.endswith(b"}") and b"HTTP/1.1 200" in whole[:20]
