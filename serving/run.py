"""Start the gateway as `mercato serve` does: BentoML in place of this process."""

import ipaddress
import os
import socket
import sys
from urllib.parse import urlsplit

from mercato.errors import BadSetting, TransientError
from mercato.settings import Settings


class PortInUse(TransientError):
    """Somebody else listens where the gateway should."""


def address(url: str) -> tuple[str, int]:
    """Host (a numeric address) and port of `MERCATO_URL`.

    Raises:
        BadSetting: the URL names no host or port that one could listen on.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    if parts.scheme != "http" or not host or port is None or not _is_numeric(host):
        raise BadSetting(f"MERCATO_URL is {url!r}, need http://ADDRESS:PORT with a numeric address")
    return host, port


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_port(host: str, port: int) -> None:
    """Nothing, when the port is free.

    Raises:
        PortInUse: it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"found port {port} on {host} taken ({error.strerror}), need it free for the gateway; "
                f"stop what listens there (`ss -ltnp 'sport = :{port}'` names it) or set MERCATO_URL to another port"
            ) from error


def serve(settings: Settings) -> None:
    """Does not return: BentoML takes this process over.

    Raises:
        PortInUse: the port is taken.
        BadSetting: `MERCATO_URL` cannot be listened on.
    """
    host, port = address(settings.url)
    check_port(host, port)
    # BentoML empties a folder below its home for the workers' counters: two gateways may not share one.
    os.environ.update(
        BENTOML_HOME=str(settings.root / "bentoml"),
        BENTOML_DO_NOT_TRACK="True",
        DO_NOT_TRACK="1",
        MERCATO_HOME=str(settings.root),
    )
    # One thread per native library: more only wait for each other on a busy machine.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:Gateway", "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 - arguments are ours
