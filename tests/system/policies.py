"""A web server for tests that has policies of MTA-STS, or whatever a test says; and what asks qmail-mtastsd."""
import os
import socket
import ssl
import threading

from certificates import pem, server_context

SOCKET = "run/qmail-mtastsd/socket"
WAIT = 30


def policy(*patterns, mode="enforce", max_age=604800):
    return "".join(["version: STSv1\r\n", f"mode: {mode}\r\n", *(f"mx: {p}\r\n" for p in patterns), f"max_age: {max_age}\r\n"]).encode()


def response(body, status="200 OK", kind="text/plain", more=""):
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


class PolicyServer:
    """Listens on 127.0.0.1 and answers each request by self.says: octets, or a function that gets the connection. self.requests are those
    that came, self.refused the handshakes that failed. Use as a context manager."""

    def __init__(self, *names, chain=None):
        self.context = server_context(chain or pem("prime256v1", *names))
        self.says = b""
        self.requests, self.refused = [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.session, args=(connection,), daemon=True).start()

    def session(self, connection):
        connection.settimeout(WAIT)
        try:
            with self.context.wrap_socket(connection, server_side=True) as tls:
                request = b""
                while b"\r\n\r\n" not in request:
                    octets = tls.recv(4096)
                    if not octets:
                        return
                    request += octets
                self.requests.append(request.decode())
                if callable(self.says):
                    self.says(tls)
                else:
                    tls.sendall(self.says)
                    tls.unwrap()
        except ssl.SSLError as why:
            self.refused.append(why)
        except OSError:
            pass


def connect(tree):
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asking.settimeout(WAIT)
    here = os.getcwd()
    os.chdir(tree.home)  # a socket path is short
    try:
        asking.connect(SOCKET)
    finally:
        os.chdir(here)
    return asking


def ask(tree, domain, id_=""):
    """The policy's text, or None."""
    with connect(tree) as asking:
        asking.send(domain.encode() + b"\0" + id_.encode())
        answer = asking.recv(1 << 17)
    assert answer[:1] in (b"P", b"N"), answer
    return answer[1:] if answer[:1] == b"P" else None
