"""Other hosts, in one process: an SMTP server on a port of its own. How it behaves, the recipient's domain says:

good.example    takes all at once
slow.example    takes seconds for each reply, and reads mail data drop by drop
flaky.example   answers a third of the recipients with 450, and hangs up within a third of the mail data
refuse.example  refuses every recipient for ever"""
import asyncio
import random
import re

from ledger import FIELD, Ledger, digest

TEMPORARY, PERMANENT = b"450 4.2.1 later", b"550 5.1.1 nobody of that name"


class Session:
    def __init__(self, reader, writer, ledger):
        self.reader, self.writer, self.ledger = reader, writer, ledger
        self.recipients, self.slow = [], False

    async def say(self, line):
        if self.slow:
            await asyncio.sleep(random.uniform(0.5, 3))
        self.writer.write(line + b"\r\n")
        await self.writer.drain()

    async def recipient(self, line):
        address = re.search(rb"<(.*)>", line).group(1).decode()
        domain = address.rpartition("@")[2]
        self.slow = domain == "slow.example"
        if domain == "refuse.example":
            await self.say(PERMANENT)
        elif domain == "flaky.example" and random.random() < 1 / 3:
            await self.say(TEMPORARY)
        else:
            self.recipients.append(address)
            await self.say(b"250 2.1.5 fine")

    async def data(self):
        if any(r.endswith("@flaky.example") for r in self.recipients) and random.random() < 1 / 3:
            await self.reader.readline()
            raise ConnectionError
        lines = []
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                raise ConnectionError
            lines.append(line[1:] if line.startswith(b".") else line)
            if self.slow and len(lines) % 200 == 0:
                await asyncio.sleep(0.05)
        message = b"".join(lines)
        name = FIELD.search(message)
        for recipient in self.recipients:
            self.ledger.add(name.group(1).decode(), digest(message), recipient)
        self.recipients = []
        await self.say(b"250 2.0.0 taken")

    async def run(self):
        await self.say(b"220 sink.example ESMTP")
        while line := await self.reader.readline():
            verb = line[:4].upper().strip()
            if verb == b"EHLO":
                await self.say(b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME")
            elif verb == b"RCPT":
                await self.recipient(line)
            elif verb == b"DATA" and not self.recipients:
                await self.say(b"503 5.5.1 no recipients")
            elif verb == b"DATA":
                await self.say(b"354 go on")
                await self.data()
            elif verb == b"QUIT":
                await self.say(b"221 2.0.0 bye")
                return
            else:
                if verb == b"RSET":
                    self.recipients = []
                await self.say(b"250 2.0.0 fine")


def run(directory, listener):
    """Until it is killed."""
    ledger = Ledger(directory, "arrived", "sink")

    async def serve(reader, writer):
        try:
            await Session(reader, writer, ledger).run()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, sock=listener, limit=1 << 20)
        await server.serve_forever()

    asyncio.run(main())
