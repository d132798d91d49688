"""What mail programs say, as files of lines:

    C: and what the client sends
    S: and a pattern for the line that comes
    S* and a pattern for all lines up to the last one of the reply
    TLS: it begins here
    END and how many messages there are then
"""
import re

from conftest import HOST, SOURCE
from test_tls import new_context

LAST = re.compile(r"\.\r\n|\d{3} .*\r\n")


def lines_of(transcript):
    return (SOURCE / "tests/system" / transcript).read_text().splitlines()


def protect(connection):
    return new_context().wrap_socket(connection, server_hostname=HOST, suppress_ragged_eofs=False)


def play(transcript, connection):
    """Leads the session, and closes it; returns the number behind END."""
    file, said, end = connection.makefile("rb"), None, None
    for n, line in enumerate(lines_of(transcript), 1):
        kind, _, text = line.partition(" ")
        if kind == "C:":
            connection.sendall(text.encode() + b"\r\n")
        elif kind == "TLS":
            connection = protect(connection)
            file = connection.makefile("rb")
        elif kind == "END":
            end = int(text)
        else:
            said = said or file.readline().decode()
            while kind == "S*" and not LAST.fullmatch(said):
                assert re.fullmatch(text + "\r\n", said), (n, said)
                said = file.readline().decode()
            if kind == "S:":
                assert re.fullmatch(text + "\r\n", said), (n, text, said)
                said = None
    connection.close()
    return end
