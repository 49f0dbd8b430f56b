"""`alignloop label serve`: the address, TLS, the first link, and the server itself."""

import argparse
import ipaddress
import socket
import ssl
import sys
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import uvicorn

from alignloop.errors import UserError
from alignloop.label.commands import database_for
from alignloop.label.server_settings import ServerSettings, checked_url, hosts_of
from alignloop.label.store import accounts, settings
from alignloop.label.store.database import Database
from alignloop.label.web.app import create_app
from alignloop.label.web.patience import PatientConnection

Options = argparse.Namespace


def serve(options: Options) -> None:
    """Run the server until it is stopped. Raises UserError for an unsafe address."""
    public_url = checked_url(options.public_url) if options.public_url else ""
    check_address(options, public_url)
    speaks_tls = bool(options.tls_certificate)
    with closing(database_for(options)) as database, _listen(options.host, options.port) as socket_:
        scheme = "https" if speaks_tls else "http"
        here = f"{scheme}://{_in_url(options.host)}:{socket_.getsockname()[1]}"
        app = create_app(
            database,
            ServerSettings(
                folder=Path(options.project),
                public_url=public_url,
                speaks_tls=speaks_tls,
                hosts=hosts_of(public_url),
            ),
        )
        _greet(database, here, public_url)
        config = uvicorn.Config(
            app,
            http=PatientConnection,
            ws="none",
            log_level="warning",
            server_header=False,
            ssl_certfile=options.tls_certificate,
            ssl_keyfile=options.tls_key,
            # X-Forwarded-For decides whose guesses are counted: only a proxy may set it
            proxy_headers=options.behind_proxy is not None,
            forwarded_allow_ips=options.behind_proxy,
        )
        try:
            uvicorn.Server(config).run(sockets=[socket_])
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def check_address(options: Options, public: str) -> None:
    """Raise UserError if passwords would cross a network unencrypted, or links lead nowhere."""
    if bool(options.tls_certificate) != bool(options.tls_key):
        fix = "give both: --tls-certificate FILE --tls-key FILE"
        raise UserError("TLS needs a certificate and its key", fix=fix)
    if options.tls_certificate:
        _check_certificate(options.tls_certificate, options.tls_key)
    where = f"--host {options.host}"
    is_encrypted = bool(options.tls_certificate) or options.behind_proxy is not None
    if not _is_loopback(options.host) and not is_encrypted:
        raise UserError(
            "serving other machines without TLS would expose passwords and cookies",
            where=where,
            fix="give --tls-certificate and --tls-key, or put a proxy in front and pass "
            "--behind-proxy; docs/labelling.md has recipes",
        )
    if (options.behind_proxy is not None or not _is_loopback(options.host)) and not public:
        name = f"--public-url https://{socket.gethostname()}:{options.port}"
        problem = "links need the address that people will open"
        raise UserError(problem, where=where, fix=f"give it, such as {name}")
    if public.startswith("https:") and not is_encrypted:
        fix = "give --tls-certificate and --tls-key, or --behind-proxy if a proxy has the TLS"
        raise UserError("nothing here speaks TLS", where=f"--public-url {public}", fix=fix)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise UserError("this is not an IP address", where=f"--host {host}") from None


def _check_certificate(certificate: str, key: str) -> None:
    """Raise UserError if the files are unreadable, do not belong together, or want a password."""

    def no_password() -> NoReturn:
        fix = "remove it: openssl pkey -in KEY -out KEY-WITHOUT-PASSWORD"
        raise UserError("the key has a password", where=key, fix=fix)

    for path in (certificate, key):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"this cannot be read: {error.strerror}", where=path) from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        problem = f"this certificate and this key do not work together: {error.reason}"
        fix = "give PEM files: the certificate with its chain, and the key that it was made for"
        raise UserError(problem, where=f"{certificate}, {key}", fix=fix) from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Name the protocol: asyncio disables Nagle's algorithm only then. Otherwise a request right
    # after another waits 40 ms for a delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(256)
        return listening
    except (OSError, OverflowError) as error:  # no port is that large
        listening.close()
        problem = f"the port cannot be opened: {getattr(error, 'strerror', error)}"
        fix = "choose another one with --port"
        raise UserError(problem, where=f"{host}:{port}", fix=fix) from error


def _greet(database: Database, here: str, public_url: str) -> None:
    """Print and record the server's address, and print the first admin's link."""
    address = public_url or here
    with database.transaction() as session:
        token = accounts.invite_first_admin(session)
        settings.keep(session, settings.ADDRESS, address)
    if token is not None:
        print(f"Create the first account (this link works once):\n{address}/invite/{token}")
    url = database.engine.url.render_as_string()  # without the password
    print(f"Annotation page: {address}   ({url})")
    if address != here:
        print(f"Listening on {here}")
    print("Ctrl+C stops it.", flush=True)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
