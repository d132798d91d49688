"""Client and sink of the harness as mail servers are: commands, and replies to commands, go out in groups (RFC 2920)."""
import asyncio
import multiprocessing
import socket


def client(waiting):
    """The harness's client, which waits for each reply, as one that waits for none to RCPT."""
    class Client(waiting):
        def __init__(self, port):
            super().__init__(port)
            self.group = []

        def cmd(self, c, want="250"):
            self.group.append((c, want))
            if c.startswith("RCPT"):
                return
            group, self.group = self.group, []
            self.s.sendall("".join(f"{command}\r\n" for command, _ in group).encode())
            for _, reply in group:
                self.get(reply)

    return Client


class Session(asyncio.Protocol):
    """counts: recipients, messages, sessions"""

    def __init__(self, counts):
        self.counts = counts
        self.octets = b""
        self.recipients = 0
        self.in_data = False

    def connection_made(self, transport):
        self.transport = transport
        self.counts[2] += 1
        transport.write(b"220 sink\r\n")

    def data_received(self, data):
        self.octets += data
        replies = []
        while True:
            end = b"\r\n.\r\n" if self.in_data else b"\r\n"
            line, found, rest = self.octets.partition(end)
            if not found:
                break
            self.octets = rest
            replies.append(self.message() if self.in_data else self.command(line[:4].upper()))
        self.transport.write(b"".join(replies))

    def message(self):
        self.in_data = False
        self.counts[0] += self.recipients
        self.counts[1] += 1
        self.recipients = 0
        return b"250 ok\r\n"

    def command(self, verb):
        if verb == b"EHLO":
            return b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
        if verb == b"DATA":
            self.in_data = True
            return b"354 go\r\n"
        if verb == b"RCPT":
            self.recipients += 1
        elif verb == b"RSET":
            self.recipients = 0
        elif verb == b"QUIT":
            return b"221 bye\r\n"
        return b"250 ok\r\n"


def serve(listener, counts):
    async def run():
        server = await asyncio.get_running_loop().create_server(lambda: Session(counts), sock=listener, backlog=1000)
        await server.serve_forever()

    asyncio.run(run())


def sink(harness):
    """In place of the harness's: its counts are there at once, where that one writes them fifty times a second."""
    class Sink:
        def __init__(self):
            self.counts = multiprocessing.Array("L", 3, lock=False)
            with socket.create_server(("127.0.0.1", harness.SINKPORT), backlog=1000) as listener:
                self.process = multiprocessing.Process(target=serve, args=(listener, self.counts), daemon=True)
                self.process.start()

        def stat(self):
            return dict(zip(("rcpt", "mesg", "sess"), self.counts))

        def count(self):
            return self.counts[0]

        def cpu(self):
            return harness.procs_cpu(self.process.pid)

        def stop(self):
            self.process.terminate()
            self.process.join()

    return Sink
