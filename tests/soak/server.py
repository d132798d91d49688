"""The complete server in a directory of its own, every service of it, under s6-svscan and one user: as `make up` has it."""
import contextlib
import os
import pathlib
import re
import socket
import subprocess
import sys
import types

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/system"))
import conftest  # noqa: E402

DOMAIN = "soak.example"
FAR = ("good.example", "slow.example", "flaky.example", "refuse.example")
PASSWORD = "as long as it lasts"
OPEN = ("qmail-smtpd", "qmail-submission", "qmail-popup")
SERVICES = ("qmail-queued", "qmail-rcptd", "qmail-keyd", "qmail-tlsd", "qmail-authd", "qmail-submitd", "qmail-mtastsd", "qmail-send", *OPEN)
TELLS_CRASH = re.compile(rf"{conftest.SAYS_CRASH.pattern}|^.*(?:by signal \d|a writer died|a worker ended|ended without a report|"
                         r"a child for bounces ended|alert: lost qmail-|fatal: ).*$", re.M)
# half of what comes is put off, the rest is kept as a file each
GRUMPY = "|[ $(($$ % 2)) = 0 ] || exit 111; f=$$.$(date +%s%N); cat >grumpy/.$f && mv grumpy/.$f grumpy/$f\n"


class Server(conftest.Tree):
    def __init__(self, home):
        subprocess.run([SOURCE / "admin/install", conftest.BUILD, home], cwd=SOURCE, check=True, stdout=subprocess.DEVNULL)
        super().__init__(home)
        subprocess.run([self.bin / "qmail-setup", "-1", DOMAIN], check=True, stdout=subprocess.DEVNULL)
        self.ports = {name: conftest.free_port() for name in OPEN}
        self.sink = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.configure()
        self.scan = None
        self.read, self.told = set(), set()  # logs that change no more; what was found

    def configure(self):
        self.own(self.home)
        for name, value in {"locals": DOMAIN, "rcpthosts": DOMAIN, "concurrencyincoming": 2000, "timeoutsmtpd": 300,
                            "submissionmessages": 0, "submissionrecipients": 0,
                            "smtproutes": "\n".join(f"{d}:127.0.0.1:{self.sink.getsockname()[1]}" for d in FAR)}.items():
            self.write(f"control/{name}", f"{value}\n")
        for name, port in self.ports.items():
            self.write(f"service/{name}/listen", f"127.0.0.1 {port}\n")
            (self.home / f"service/{name}/down").unlink()
        self.write("service/qmail-smtpd/env/RELAYCLIENT", "\n")
        self.write("service/qmail-popup/env/FORCETLS", "0\n")
        for user in conftest.ACCOUNTS:
            for sub in ("tmp", "new", "cur"):
                (self.home / "home" / user / "Maildir" / sub).mkdir(parents=True, mode=0o700)
        (self.home / "home/ana/grumpy").mkdir()
        self.own(self.home / "home")
        self.write("home/ana/.qmail-grumpy", GRUMPY)
        self.write("home/ana/.qmail-fails", "|echo not here; exit 100\n")
        self.assign()
        for user in conftest.ACCOUNTS:
            self.run("qmail-account", "add", "-p", "0", "-d", f"home/{user}", "-u", f"{self.uid}:{self.gid}", f"{user}@{DOMAIN}",
                     input=PASSWORD.encode() + b"\n", check=True)

    def world(self, directory, pause, idle):
        """What load.py wants to know of it."""
        return types.SimpleNamespace(
            directory=directory, home=self.home, domain=DOMAIN, password=PASSWORD, pause=pause, idle=idle, smtp=self.ports["qmail-smtpd"],
            submission=self.ports["qmail-submission"], pop3=self.ports["qmail-popup"],
            as_user=[] if os.getuid() else [conftest.as_user(), str(self.uid), str(self.gid)])

    def start(self):
        with open(self.home / "log/svscan", "wb") as log:
            self.own(self.home / "log/svscan")
            self.scan = self.popen("/usr/bin/s6-svscan", "service", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        for name in SERVICES:
            conftest.wait_for(lambda n=name: self.run("/usr/bin/s6-svwait", "-U", "-t", "1000", f"service/{n}").returncode == 0,
                              60, f"{name} to be ready")

    def hurry(self):
        self.run("/usr/bin/s6-svc", "-a", "service/qmail-send")

    def waiting(self):
        return int(re.search(rb"messages in queue: (\d+)", self.run("qmail-qstat", check=True).stdout).group(1))

    def processes(self):
        """{pid: program} of the server's own programs."""
        found = {pid: conftest.program_of(pid) for pid, _ in conftest.processes_of((), self.home)}
        return {pid: name for pid, name in found.items() if name}

    def services(self):
        """{service: pid}; of those that listen it is the parent of all sessions."""
        return {name: int(self.run("/usr/bin/s6-svstat", "-o", "pid", f"service/{name}", check=True).stdout) for name in SERVICES}

    def crashes(self):
        """Lines of logs, which come and go, that tell of a crash. Nobody kills a program here."""
        for path in (self.home / "log").glob("*/*"):
            if path.name in ("lock", "state") or path in self.read:
                continue
            with contextlib.suppress(FileNotFoundError):
                self.told.update(f"{path.parent.name}: {line}" for line in TELLS_CRASH.findall(path.read_text(errors="replace")))
            if path.name != "current":
                self.read.add(path)
        return sorted(self.told)

    def stop(self):
        """Returns the processes that are left behind, of which there should be none."""
        self.run("/usr/bin/s6-svscanctl", "-t", "service")
        try:
            self.scan.wait(60)
        except subprocess.TimeoutExpired:
            self.scan.kill()
        left = self.processes()
        for pid in left:
            os.kill(pid, 9)
        return left
