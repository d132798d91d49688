"""An SMTP server that says what a test wants. Server(reply=..., extensions=...) listens on 127.0.0.1 at a port of its own and
keeps what clients said: Server.sessions, each with commands, messages and reads.

reply(session, verb, line) gives the reply to a command as octets without the last CR LF, None for the usual one, CLOSE to
hang up, SILENCE to say nothing; verb is also "greeting", "login" (after AUTH), "end" (after the mail data), "chunk" (after BDAT that is not the
last). A function raw(session) instead plays the whole session on session.socket.
tls: a context of Python's ssl; STARTTLS is offered and done then, or with at_once=True TLS begins before the greeting.
Session.tls is the ssl socket once there is one, Session.in_clear the commands before it; cipher and is_resumed tell of it."""
import base64
import re
import socket
import threading

CLOSE, SILENCE = object(), object()
ALL = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "ENHANCEDSTATUSCODES")
WAIT = 60


class Gone(Exception):
    pass


class Message:
    def __init__(self, mail, recipients, octets, by):
        self.mail, self.recipients, self.octets, self.by = mail, recipients, octets, by


class Session:
    def __init__(self, server, sock):
        self.server, self.socket = server, sock
        self.octets = b""
        self.commands = []      # lines without CR LF
        self.reads = []         # what each recv gave
        self.messages = []
        self.mail, self.recipients, self.chunks = None, [], b""
        self.ended = False
        self.tls, self.in_clear, self.failure, self.login = None, None, None, None
        sock.settimeout(WAIT)

    # -- octets ------------------------------------------------------------
    def more(self):
        try:
            octets = self.socket.recv(1 << 16)
        except OSError:
            octets = b""
        if not octets:
            raise Gone
        self.reads.append(octets)
        self.octets += octets

    def line(self):
        while b"\r\n" not in self.octets:
            self.more()
        line, _, self.octets = self.octets.partition(b"\r\n")
        return line

    def exactly(self, size):
        while len(self.octets) < size:
            self.more()
        octets, self.octets = self.octets[:size], self.octets[size:]
        return octets

    def data(self):
        """Mail data as it came, dots still doubled, without the final dot."""
        seen = 0
        while not self.octets.startswith(b".\r\n"):
            found = self.octets.find(b"\r\n.\r\n", max(0, seen - 5))
            if found >= 0:
                octets, self.octets = self.octets[:found + 2], self.octets[found + 5:]
                return octets
            seen = len(self.octets)
            self.more()
        self.octets = self.octets[3:]
        return b""

    def say(self, octets):
        try:
            self.socket.sendall(octets)
        except OSError:
            raise Gone

    def start_tls(self):
        try:
            self.socket = self.tls = self.server.tls.wrap_socket(self.socket, server_side=True)
        except (OSError, ValueError) as e:
            self.failure = e
            raise Gone
        self.cipher, self.is_resumed = self.tls.cipher()[0], self.tls.session_reused
        self.in_clear, self.commands, self.octets = self.commands, [], b""

    # -- SMTP ---------------------------------------------------------------
    def answer(self, verb, line, usual):
        """Says the reply; returns its first octet as text, "" for none."""
        reply = self.server.reply(self, verb, line) if self.server.reply else None
        if reply is CLOSE:
            raise Gone
        if reply is SILENCE:
            return ""
        if reply is None:
            reply = usual
        self.say(reply + b"\r\n")
        return reply.rpartition(b"\n")[2][:1].decode(errors="replace")

    def run(self):
        if self.server.at_once:
            self.start_tls()
        if self.answer("greeting", b"", b"220 fake.example ESMTP") == "":
            while True:
                self.more()
        while True:
            line = self.line()
            self.commands.append(line)
            verb = re.split(rb"[ :]", line, maxsplit=1)[0].upper().decode(errors="replace")
            getattr(self, f"do_{verb}", self.do_unknown)(line)

    def do_unknown(self, line):
        self.answer("unknown", line, b"500 5.5.1 what?")

    def do_EHLO(self, line):
        offers_tls = self.server.tls and not self.tls
        lines = [b"fake.example", *(e.encode() for e in self.server.extensions), *[b"STARTTLS"] * bool(offers_tls)]
        self.answer("EHLO", line, b"\r\n".join(b"250-" + l for l in lines[:-1]) + (b"\r\n" if lines[1:] else b"") + b"250 " + lines[-1])

    def do_STARTTLS(self, line):
        if self.answer("STARTTLS", line, b"220 2.0.0 go on") == "2":
            self.start_tls()

    def do_AUTH(self, line):
        words = line.split()
        if words[1] == b"LOGIN":
            self.login = b""
            for prompt in (b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"):
                if self.answer("AUTH", line, prompt) != "3":
                    return
                self.login += b"\0" + base64.b64decode(self.line(), validate=True)
        else:
            self.login = base64.b64decode(words[2], validate=True)
        self.answer("login", line, b"235 2.7.0 welcome")

    def do_HELO(self, line):
        self.answer("HELO", line, b"250 fake.example")

    def do_RSET(self, line):
        self.mail, self.recipients, self.chunks = None, [], b""
        self.answer("RSET", line, b"250 2.0.0 ok")

    def do_MAIL(self, line):
        if self.mail is not None:
            self.answer("MAIL", line, b"503 5.5.1 nested MAIL")
        elif self.answer("MAIL", line, b"250 2.1.0 ok") == "2":
            self.mail = line

    def do_RCPT(self, line):
        if self.mail is None:
            self.answer("RCPT", line, b"503 5.5.1 MAIL first")
        elif self.answer("RCPT", line, b"250 2.1.5 ok") == "2":
            self.recipients.append(re.search(rb"<(.*)>", line).group(1).decode())

    def do_DATA(self, line):
        if not self.recipients:
            self.answer("DATA", line, b"503 5.5.1 RCPT first")
        elif self.answer("DATA", line, b"354 go on") == "3":
            self.end(self.data(), "DATA")

    def do_BDAT(self, line):
        words = line.split()
        octets = self.exactly(int(words[1]))
        if not self.recipients:
            self.answer("BDAT", line, b"503 5.5.1 RCPT first")
            return
        self.chunks += octets
        if len(words) > 2:
            self.end(self.chunks, "BDAT")
        else:
            self.answer("chunk", line, b"250 2.0.0 chunk")

    def end(self, octets, by):
        message = Message(self.mail, self.recipients, octets, by)
        self.mail, self.recipients, self.chunks = None, [], b""
        self.messages.append(message)
        self.answer("end", b"", b"250 2.0.0 taken")

    def do_QUIT(self, line):
        self.answer("QUIT", line, b"221 2.0.0 bye")
        raise Gone


class Server:
    def __init__(self, reply=None, extensions=(), raw=None, host="127.0.0.1", port=0, tls=None, at_once=False):
        self.reply, self.extensions, self.raw = reply, extensions, raw
        self.tls, self.at_once = tls, at_once
        self.sessions = []
        self.is_closing = False
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each group of replies waits 40 ms for an acknowledgement
        self.listener.bind((host, port))
        self.listener.listen(100)
        self.host, self.port = host, self.listener.getsockname()[1]
        self.threads = []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            session = Session(self, sock)
            self.sessions.append(session)
            thread = threading.Thread(target=self.serve, args=(session,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def serve(self, session):
        try:
            (self.raw or Session.run)(session)
        except Gone:
            pass
        finally:
            session.socket.close()
            session.ended = True

    @property
    def messages(self):
        return [m for s in self.sessions for m in s.messages]

    @property
    def commands(self):
        return [c for s in self.sessions for c in s.commands]

    def close(self):
        """Stops listening and hangs up."""
        if self.is_closing:
            return
        self.is_closing = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(WAIT)
        for session in self.sessions:
            try:
                session.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(WAIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def undot(octets):
    """Mail data without the doubled dots."""
    return re.sub(rb"(?m)^\.\.", b".", octets)
