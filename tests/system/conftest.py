"""Fixtures of the system tests: an installed private server in a directory of its own.

tree    the programs of $BUILD (default: build) installed by `admin/install`, set up by bin/qmail-setup -1, with
        accounts ana and luis; nothing runs. Everything belongs to one unprivileged user, whoever runs the tests.
server  a tree whose qmail-queued and qmail-start run, as children in sessions of their own; at the end they are
        stopped, and the test fails if a process is left.

Programs in a tree are hard links of one installation that all tests share: to replace one, remove it first
(Tree.replace does), never write into it.
"""
import contextlib
import functools
import mailbox
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = (SOURCE / os.environ.get("BUILD", "build")).resolve()
SHARED = SOURCE.parent / "shared"
HOST = "mail.test.example"
ACCOUNTS = ("ana", "luis")
WAIT = 30  # seconds that a condition may take on a loaded machine
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS}
# Who started a program logs that it crashed. Of one that was killed the signal is said, which may have been sent by a test.
SAYS_CRASH = re.compile(r"(?m)^.*(?:crashed|by signal (?:%s)\b).*$" % "|".join(str(int(s)) for s in sorted(CRASHES)))
ROOM = 2 << 30  # octets that all trees together may need: rings, large messages


def account():
    """(uid, gid) that the private server runs as: the caller, or nobody where that is root."""
    if os.getuid():
        return os.getuid(), os.getgid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


@functools.cache
def as_user():
    """A small program, to be put before another: as-user UID GID PROGRAM ARGUMENT..."""
    path = BUILD / "as-user"
    with tempfile.TemporaryDirectory(dir=BUILD) as made:
        subprocess.run(["cc", "-O2", "-static", "-o", f"{made}/as-user", SOURCE / "tests/system/as-user.c"], check=True)
        os.rename(f"{made}/as-user", path)
    return path


def wait_for(condition, deadline=WAIT, what=None):
    """Asks until condition() is true; returns what it gave. Fails after deadline seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"waited {deadline} s for {what or condition}")
        time.sleep(0.01)


def processes_of(sessions, home):
    """(pid, command line) of every process, zombies aside, of these sessions or with its program below home."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            state, _, _, session = stat[stat.rindex(")") + 2:].split()[:4]
            command = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            try:
                program = os.readlink(f"/proc/{entry}/exe")
            except OSError:
                program = ""
        except OSError:
            continue
        if state in "ZX":
            continue
        if int(session) in sessions or program.startswith(f"{home}/"):
            found.append((int(entry), command or stat))
    return found


def program_of(pid):
    """The name of the program that a process runs; None if it has just ended."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None


def ignore_children():
    """A preexec_fn: programs of daemons that ignore SIGCHLD inherit that."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def free_port():
    """A TCP port that nobody has at any address. Not one of those that the kernel chooses for others, which may have it a moment later."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("", port))
                return port
            except OSError:
                continue


class Tree:
    """An installed private server that does not run."""

    def __init__(self, home):
        self.home = pathlib.Path(home)
        self.uid, self.gid = account()
        self.bin = self.home / "bin"
        self.control = self.home / "control"

    # -- files ------------------------------------------------------------
    def own(self, path):
        """Gives path, and all below it, to the server's user."""
        if os.getuid() == 0:
            for p in [path, *pathlib.Path(path).rglob("*")]:
                os.chown(p, self.uid, self.gid, follow_symlinks=False)
        return path

    def write(self, name, text, mode=0o644):
        """Writes a file, given relative to the home, as the server's user."""
        path = self.home / name
        made = [p for p in reversed(path.parents) if not p.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        for p in [*made, path]:
            if os.getuid() == 0:
                os.chown(p, self.uid, self.gid)
        return path

    def replace(self, name, text):
        """Puts a script in the place of the program bin/NAME; libexec/NAME stays."""
        (self.bin / name).unlink(missing_ok=True)
        return self.write(f"bin/{name}", text, 0o755)

    def assign(self, *lines):
        """Writes users/assign (the accounts, then these lines, then all else to alias) and compiles it."""
        u, g = self.uid, self.gid
        rows = []
        for name in ACCOUNTS:
            rows += [f"={name}:{name}:{u}:{g}:home/{name}:::", f"+{name}-:{name}:{u}:{g}:home/{name}:-::"]
        rows += [*lines, f"+:alias:{u}:{g}:alias:-::", "."]
        self.write("users/assign", "".join(row + "\n" for row in rows))
        if self.has("qmail-newu"):
            self.run("qmail-newu", check=True)

    def maildir(self, user="ana", folder="Maildir"):
        """The messages in new/ and cur/ of a user's maildir, oldest first, as octets."""
        base = self.home / (f"home/{user}" if user != "alias" else "alias") / folder
        files = [p for sub in ("new", "cur") for p in (base / sub).glob("*")]
        return [p.read_bytes() for p in sorted(files, key=lambda p: (p.stat().st_mtime_ns, p.name))]

    def mailbox(self, user="ana", folder="Maildir"):
        """The same maildir by Python's mailbox module."""
        return mailbox.Maildir(self.home / f"home/{user}" / folder, create=False)

    # -- programs ---------------------------------------------------------
    def has(self, *programs):
        return all((self.bin / p).exists() for p in programs)

    def need(self, *programs):
        """Fails the test at once if a program is not built."""
        for p in programs:
            assert self.has(p), f"{p} is not built"

    def environment(self, **more):
        env = {"PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "USER": "ana",
               "LANG": "C.UTF-8"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        env.update(more)
        return {k: v for k, v in env.items() if v is not None}

    def popen(self, program, *args, env=None, **more):
        """Starts bin/PROGRAM (or an absolute path) as the server's user. env: variables to add (None: to remove)."""
        path = program if str(program).startswith("/") else self.bin / program
        command = [path, *args]
        if os.getuid() == 0 and "user" not in more:
            command = [as_user(), self.uid, self.gid, *command]
        more.setdefault("cwd", self.home)
        return subprocess.Popen([*map(str, command)], env=self.environment(**(env or {})), **more)

    def run(self, program, *args, input=b"", env=None, check=False, timeout=60, **more):
        """Runs a program to its end; returns subprocess.CompletedProcess with octets."""
        more.setdefault("stdin", subprocess.PIPE)
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        process = self.popen(program, *args, env=env, **more)
        try:
            out, err = process.communicate(input if more["stdin"] == subprocess.PIPE else None, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        if check and done.returncode:
            pytest.fail(f"{program} {args}: exit {done.returncode}: {err!r}")
        return done

    def inject(self, message, *args, check=True, **more):
        """qmail-inject: message on descriptor 0, arguments as given."""
        message = message.encode() if isinstance(message, str) else message
        return self.run("qmail-inject", *args, input=message, check=check, **more)

    def queue(self, message, sender, *recipients, envelope=None, program="qmail-queue", **more):
        """qmail-queue: message on descriptor 0, envelope on 1 (made of sender and recipients, or as given).
        Returns subprocess.CompletedProcess."""
        octets = [x if isinstance(x, bytes) else x.encode() for x in (message, sender, *recipients)]
        if envelope is None:
            envelope = b"F" + octets[1] + b"\0" + b"".join(b"T" + r + b"\0" for r in octets[2:]) + b"\0"
        with tempfile.TemporaryFile() as body, tempfile.TemporaryFile() as addresses:
            for file, text in ((body, octets[0]), (addresses, envelope)):
                file.write(text)
                file.seek(0)
            return self.run(program, stdin=body, stdout=addresses, **more)


class Server(Tree):
    """A tree whose daemons run. keeper and send are subprocess.Popen, or None while they do not run.

    limits: preexec_fn of the daemons, such as a limit of memory that they and their children have (smtp_session.capped)."""
    limits = None

    def __init__(self, home):
        super().__init__(home)
        self.keeper = self.send = None
        self.sessions = set()
        self.default_delivery = "./Maildir/"
        (self.home / "output").mkdir(exist_ok=True)
        self.own(self.home / "output")

    def log(self, name="qmail-send"):
        """What qmail-send (its standard output) or qmail-queued (its standard error) said so far."""
        path = self.home / "output" / name
        return path.read_text(errors="replace") if path.exists() else ""

    def start_daemon(self, name, program, *args, env=None):
        """Starts a program that says with a line on a descriptor that it is ready, and waits for it."""
        ours, theirs = os.pipe()
        with open(self.home / "output" / name, "ab") as log, open(self.home / "output" / f"{name}.stderr", "ab") as errors:
            process = self.popen(program, "-d", theirs, *args, stdin=subprocess.DEVNULL, pass_fds=[theirs],
                                 stdout=log, stderr=log if name == "qmail-queued" else errors,
                                 start_new_session=True, env=env, preexec_fn=self.limits)
        os.close(theirs)
        self.sessions.add(process.pid)
        said = b""
        os.set_blocking(ours, False)
        end = time.monotonic() + WAIT
        while b"\n" not in said:
            try:
                octets = os.read(ours, 100)
                if not octets:
                    break
                said += octets
            except BlockingIOError:
                if time.monotonic() > end:
                    break
                time.sleep(0.005)
        os.close(ours)
        if b"\n" not in said:
            code = process.poll()
            if code is None:
                process.kill()
                process.wait()
            pytest.fail(f"{program} did not become ready (exit {code}):\n{self.log(name)}{self.log(name + '.stderr')}")
        return process

    def start_keeper(self, **env):
        self.keeper = self.start_daemon("qmail-queued", "qmail-queued", env=env)

    def start_send(self, **env):
        self.send = self.start_daemon("qmail-send", "qmail-start", self.default_delivery, env=env)

    def start(self):
        self.start_keeper()
        self.start_send()

    @staticmethod
    def end(process, sig, deadline=WAIT):
        """Sends sig (after SIGCONT) and waits for the process; returns its exit status."""
        if process.poll() is None:
            process.send_signal(sig)
            process.send_signal(signal.SIGCONT)
        return process.wait(deadline)

    def stop_send(self, sig=signal.SIGTERM):
        process, self.send = self.send, None
        return self.end(process, sig) if process else None

    def stop_keeper(self, sig=signal.SIGTERM):
        process, self.keeper = self.keeper, None
        return self.end(process, sig) if process else None

    def children(self, name):
        """pids of the server's processes whose program is bin/NAME or libexec/NAME."""
        return [pid for pid, _ in processes_of(self.sessions, self.home) if program_of(pid) == name]

    def stop(self):
        """Ends the daemons; what is left afterwards is killed and makes the test fail."""
        complaint = ""
        for what, stop in (("qmail-send", self.stop_send), ("qmail-queued", self.stop_keeper)):
            process = self.send if what == "qmail-send" else self.keeper
            try:
                stop()
            except subprocess.TimeoutExpired:
                complaint += f"{what} did not end on SIGTERM; "
                process.kill()
                process.wait()
        end = time.monotonic() + 10
        while (left := processes_of(self.sessions, self.home)) and time.monotonic() < end:
            time.sleep(0.01)
        for pid, _ in left:
            os.kill(pid, signal.SIGKILL)
        if left or complaint:
            pytest.fail(f"{complaint}processes left: {left}\n{self.log()[-2000:]}{self.log('qmail-queued')[-2000:]}"
                        f"{self.log('qmail-send.stderr')[-2000:]}")

    def arrived(self, count, user="ana", deadline=WAIT):
        """Waits until a maildir holds count messages; returns them."""
        wait_for(lambda: len(self.maildir(user)) >= count, deadline, f"{count} messages for {user}:\n{self.log()[-3000:]}")
        return self.maildir(user)

    def logged(self, text, count=1, deadline=WAIT):
        """Waits until qmail-send logged text count times; returns the log."""
        wait_for(lambda: self.log().count(text) >= count, deadline, f"{text!r} in the log:\n{self.log()[-3000:]}")
        return self.log()


def pytest_configure():
    """Trees are made in memory, where TMPDIR does not say otherwise: hundreds of directories a test cost more than what most
    tests do. What a disk keeps is tested on file systems of its own."""
    memory = "/dev/shm"
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK):
        return
    found = os.statvfs(memory)
    if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = memory


def new_directory():
    """A directory of its own that every user may enter, where the tests' temporary files go ($TMPDIR)."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="tambo-test-"))
    path.chmod(0o755)
    return path


def pytest_collection_modifyitems(items):
    """Modules that one process has to run alone come first: the others fill what they leave."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@contextlib.contextmanager
def new_installation():
    """One installed tree that the others are hard links of, and a directory for them; both go at the end."""
    top = new_directory()
    try:
        home = top / "installation"
        subprocess.run(["admin/install", str(BUILD), str(home)], cwd=SOURCE, check=True, stdout=subprocess.PIPE)
        subprocess.run([home / "bin/qmail-setup", "-1", HOST], check=True, stdout=subprocess.PIPE)
        yield home, top
    finally:
        shutil.rmtree(top)


@pytest.fixture(scope="session")
def installation():
    if not (BUILD / "bin").is_dir():
        pytest.exit(f"{BUILD}/bin does not exist: run make first", 2)
    with new_installation() as (home, _):
        yield home


def make_tree(installation, kind, home):
    """Copies the installation to home (which does not exist), programs as hard links where that is possible."""
    def link_or_copy(source, target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    uid, gid = account()
    home.mkdir(parents=True)
    for name in sorted(os.listdir(installation)):
        source = installation / name
        if name in ("bin", "libexec"):
            (home / name).mkdir()
            for file in sorted(os.listdir(source)):
                twin = installation / "bin" / file
                if name == "libexec" and twin.exists() and os.path.samefile(source / file, twin):
                    os.link(home / "bin" / file, home / name / file)
                else:
                    link_or_copy(source / file, home / name / file)
        elif source.is_dir() and name not in ("man", "service"):
            shutil.copytree(source, home / name, symlinks=True)
    for user in ACCOUNTS:
        for sub in ("tmp", "new", "cur"):
            (home / "home" / user / "Maildir" / sub).mkdir(parents=True, mode=0o700)
    made = kind(home)
    if os.getuid() == 0:
        for path, folders, files in os.walk(home):
            for p in [path, *(os.path.join(path, f) for f in files)]:
                os.chown(p, uid, gid, follow_symlinks=False)
    made.assign()
    return made


@pytest.fixture
def new_tree(installation):
    """A function that makes one more tree: new_tree() or new_tree(Server); dir: where (another file system)."""
    tops, made = [], []

    def make(kind=Tree, dir=None):
        if dir is None:
            dir = new_directory()
            tops.append(dir)
        tree = make_tree(installation, kind, pathlib.Path(dir) / "tambo")
        made.append(tree)
        return tree

    yield make
    try:
        for tree in made:
            if isinstance(tree, Server):
                tree.stop()
    finally:
        for top in tops:
            shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def tree(new_tree):
    return new_tree()


@pytest.fixture
def stopped(new_tree):
    """A server that was not started yet: change its files, then call start()."""
    server = new_tree(Server)
    server.need("qmail-queued", "qmail-queue", "qmail-start", "qmail-send", "qmail-lspawn", "qmail-rspawn",
                "qmail-local", "qmail-newu")
    return server


@pytest.fixture
def server(stopped):
    stopped.start()
    return stopped


@pytest.fixture(scope="session")
def corpus():
    """Real messages: (name, octets), from shared/corpus beside the source tree."""
    files = sorted((SHARED / "corpus").glob("*.eml"))
    if not files:
        pytest.skip(f"no messages in {SHARED}/corpus")
    return [(p.name, p.read_bytes()) for p in files]
