"""make up and make down: the private server, in a copy of the source tree and, for root, in namespaces of its own
(users, mounts, processes, network), below a directory that only root may enter."""
import os
import shutil
import subprocess

import pytest

from conftest import BUILD, SOURCE, new_directory, processes_of

# a private /etc, where the account tambo is made; processes and ports of their own
NAMESPACES = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "sh", "-euc", """
    ip link set lo up
    etc=$(mktemp -d)
    cp -a /etc/. "$etc"
    mount -t tmpfs etc /etc
    cp -a "$etc/." /etc
    rm -rf "$etc"
    exec sh -euc "$1"
    """, "sh"]
# how many processes there are that do not belong to root, zombies aside
COUNT = """
count() {
    cat /proc/[0-9]*/status 2>/dev/null |
        awk '/^State:/ { z = /Z/ } /^Uid:/ && !z && $2 != 0 { n++ } END { print n + 0 }'
}
"""


@pytest.fixture
def copy():
    """The source tree as far as admin/up needs it, with the programs of BUILD as build/bin; above it a closed directory."""
    top = new_directory()
    top.chmod(0o700)
    source = top / "tambo"
    source.mkdir()
    for name in ("admin", "service", "bin-src", "control", "queue", "users"):
        shutil.copytree(SOURCE / name, source / name)
    shutil.copytree(BUILD / "bin", source / "build/bin")
    yield source
    subprocess.run([source / "admin/down"], stdout=subprocess.PIPE)
    left = processes_of((), source)
    shutil.rmtree(top)
    assert not left


def run(copy, script):
    """Runs a shell script in the copy, for root in namespaces; returns its output."""
    command = [*NAMESPACES, script] if os.getuid() == 0 else ["sh", "-euc", script]
    done = subprocess.run(command, cwd=copy, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return done.stdout


def can_unshare():
    return os.getuid() != 0 or subprocess.run([*NAMESPACES, "true"]).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="makes a user in a mount namespace of its own: not possible here")


def test_up_twice_and_down(copy):
    out = run(copy, COUNT + """
        admin/up build
        if [ "$(id -u)" = 0 ]; then
            [ "$(count)" -ge 6 ]                        # under the account of its own
            [ "$(find run ! -user tambo | wc -l)" = 0 ]  # and root wrote nothing there
        fi
        first=$(cat run/service/qmail-send/supervise/status | cksum)
        echo ---
        admin/up build
        [ "$(cat run/service/qmail-send/supervise/status | cksum)" = "$first" ]   # what ran goes on
        [ "$(ls run/home/ana/Maildir/new | wc -l)" = 2 ]
        read -r address port <run/service/qmail-smtpd/listen
        python3 -c 'if True:
            import smtplib, sys
            with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=30) as client:
                client.sendmail("s@x.example", ["luis@tambo.example"], "Subject: by SMTP\\r\\n\\r\\nhello\\r\\n")
            ' "$address" "$port"
        read -r address port <run/service/qmail-submission/listen
        python3 -c 'if True:
            import smtplib, ssl, sys
            with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=30) as client:
                client.starttls(context=ssl._create_unverified_context())
                client.login("luis@tambo.example", sys.argv[3])
                client.sendmail("luis@tambo.example", ["ana@tambo.example"], "Subject: submitted\\r\\n\\r\\nhello\\r\\n")
            ' "$address" "$port" "$(cat run/password)"
        tries=0
        until grep -qr "by SMTP" run/home/luis/Maildir/new && grep -qr "Subject: submitted" run/home/ana/Maildir/new; do
            tries=$((tries + 1))
            [ $tries -lt 300 ] || { cat run/log/*/current; exit 1; }
            sleep 0.1
        done
        until run/bin/qmail-qstat | grep -q "queue: 0"; do sleep 0.1; done
        as=
        [ "$(id -u)" != 0 ] || as='s6-setuidgid tambo'
        printf 'USER luis@tambo.example\\r\\nPASS %s\\r\\nSTAT\\r\\nQUIT\\r\\n' "$(cat run/password)" |
            (cd run && FORCETLS=0 $as bin/qmail-popup) | grep '^[+]OK 1 '   # which it takes out of new
        PATH=$PATH:/sbin:/usr/sbin run/bin/qmailctl stat
        admin/down
        [ "$(id -u)" != 0 ] || [ "$(count)" = 0 ]
        admin/down
        """)
    first, second = out.split("---\n")
    for text in (first, second):
        assert "has arrived: run/home/ana/Maildir/new/" in text
        assert "To: Ana <ana@tambo.example>" in text and "Delivered-To: ana@tambo.example" in text
        assert "make down" in text
        assert "127.0.0.1 port " in text
    assert "qmail-smtpd: up (pid " in second and "qmail-qmtpd: down" in second
    assert "qmail-send: up (pid " in second and "messages in queue: 0" in second
    assert second.count("is stopped") == 1


def test_programs_of_dot_qmail_files_are_found(copy):
    """PATH leads to the programs of the tree from a home, also below a directory that cannot be entered from /."""
    run(copy, """
        admin/up build >/dev/null
        as=
        [ "$(id -u)" != 0 ] || as='s6-setuidgid tambo'
        $as sh -c 'echo "|forward luis@tambo.example" >run/home/ana/.qmail-on'
        $as sh -c 'echo "|forward luis@tambo.example" >run/alias/.qmail-all'
        for to in ana-on all; do
            printf 'Subject: %s\\n\\n' $to | run/bin/qmail-inject $to
        done
        tries=0
        until [ "$(ls run/home/luis/Maildir/new | wc -l)" = 2 ]; do
            tries=$((tries + 1))
            [ $tries -lt 300 ] || { cat run/log/*/current; exit 1; }
            sleep 0.1
        done
        admin/down
        """)


def test_up_replaces_programs(copy):
    """After a new build, make up goes on with the new programs; mail and users stay."""
    run(copy, """
        admin/up build >/dev/null
        pid=$(s6-svstat -o pid run/service/qmail-send)
        echo '# newer' >>build/bin/svstat
        admin/up build >/dev/null
        [ "$(s6-svstat -o pid run/service/qmail-send)" != "$pid" ]
        tail -n 1 run/bin/svstat | grep -qx '# newer'
        [ "$(ls run/home/ana/Maildir/new | wc -l)" = 2 ]
        admin/down
        """)


def test_services_come_back(copy):
    """A daemon that is killed is started again; svc's letters act."""
    run(copy, """
        admin/up build >/dev/null
        cd run
        for s in qmail-queued qmail-rcptd qmail-keyd qmail-tlsd qmail-authd qmail-submitd qmail-mtastsd qmail-send qmail-smtpd qmail-submission; do
            pid=$(s6-svstat -o pid service/$s)
            kill -KILL $pid
            tries=0
            # s6-svwait would wait in vain: root's FIFO is closed to the server's supervisors
            until now=$(s6-svstat -o pid,ready service/$s) && [ "$now" != "$pid true" ] && [ "${now#* }" = true ]; do
                tries=$((tries + 1))
                [ $tries -lt 300 ] || exit 1
                sleep 0.1
            done
        done
        pid=$(s6-svstat -o pid service/qmail-send)
        bin/qmailctl flush
        bin/qmailctl reload
        bin/qmailctl restart
        [ "$(s6-svstat -o pid service/qmail-send)" != "$pid" ]
        bin/qmailctl stop
        [ "$(s6-svstat -o up service/qmail-queued)" = false ]
        bin/qmailctl start
        cd ..
        admin/up build >/dev/null
        admin/down
        """)


def test_packages_are_named(tmp_path):
    """Without root, a missing package is named in the one line that installs it."""
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "dpkg-query").write_text("#!/bin/sh\necho installed gcc\necho installed make\necho config-files s6\n")
    (fake / "id").write_text("#!/bin/sh\necho 1000\n")
    for file in fake.iterdir():
        file.chmod(0o755)
    done = subprocess.run(["admin/packages", "build", "run"], cwd=SOURCE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "PATH": f"{fake}:{os.environ['PATH']}"})
    assert done.returncode == 1
    line = done.stderr.strip().split(":  ")[1]
    assert line.startswith("apt-get install -y ")
    names = line.split()[4:]
    assert "s6" in names and "skalibs-dev" in names and "gcc" not in names and "cppcheck" not in names
