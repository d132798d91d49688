"""What a hostile user passes to a service: a TCP socket whose last close waits for a minute, because nobody takes its octets.

As a program: slow_to_close SOCKET TYPE connects to a Unix socket, passes one, writes a line, and waits to be ended."""
import array
import contextlib
import socket
import struct
import sys
import time


def passes(s, octets, seconds=60):
    """Says the octets on s with the last holding of such a socket. Returns its peer, which has to stay open. Who reads it has to be stopped
    meanwhile: it would close it first, and we were the last."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        other = listener.accept()[0]
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(bytes(65536))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
        try:
            s.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno()]))])
        except OSError:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # or we would wait
            raise
    return other


if __name__ == "__main__":
    client = socket.socket(socket.AF_UNIX, int(sys.argv[2]))
    client.connect(sys.argv[1])
    try:
        kept = passes(client, b"x")
    except OSError:  # turned away before
        pass
    print("passed", flush=True)
    time.sleep(100)
