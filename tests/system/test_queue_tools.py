"""qmail-qread and qmail-qstat, against a keeper that says what the test wants, and against the real one."""
import pytest

from fake_keeper import FakeKeeper, frame, notice, recipients

HELLO = frame("H", bytes(8))


@pytest.fixture
def ask(tree):
    tree.need("qmail-qread", "qmail-qstat")
    tree.write("control/me", "mail.example\n")
    tree.write("control/locals", "mail.example\nlocal.example\n")
    tree.write("control/virtualdomains", "v.example:ana\nx@w.example:luis\n")

    def run(program, *frames, code=0, hang_up=True):
        def serve(keeper):
            assert keeper.next() == ("Q", b"")
            keeper.socket.sendall(b"".join(frames))
            if not hang_up:
                assert keeper.next() is None

        with FakeKeeper(tree, "queue/qmail-send", serve):
            done = tree.run(program)
        assert done.returncode == code, done.stderr
        assert (done.stderr != b"") == (code != 0)
        return done.stdout.decode("utf-8", "replace")

    run.tree = tree
    return run


def test_qread_lists_messages_and_recipients(ask):
    text = ask("qmail-qread", HELLO,
               notice(7, 1_000_000_000, 1234, b"ann@example.org", 4),
               recipients((0, "T", b"ana@Local.example"), (1, "K", b"b@v.example")),
               recipients((2, "D", b"c@far.example", b"no such mailbox\n"), (3, "T", b"d")), frame("O", bytes(7) + b"\7"),
               notice(1 << 40, 5, 10, b"", 0), frame("O", bytes(8)),
               notice(9, 1_000_000_001, 2, b"#@[]", 1), recipients((0, "T", b"x@W.example")), frame("O", bytes(8)),
               frame("A"), hang_up=False)
    assert text == ("9 Sep 2001 01:46:40 GMT  #7  1234  <ann@example.org>  bouncing\n"
                    "\tlocal\tana@Local.example\n"
                    "  done\tlocal\tana-b@v.example\n"
                    "  done\tremote\tc@far.example\n"
                    "\tlocal\td@mail.example\n"
                    "1 Jan 1970 00:00:05 GMT  #1099511627776  10  <>\n"
                    "9 Sep 2001 01:46:41 GMT  #9  2  <#@[]>\n"
                    "\tlocal\tluis-x@W.example\n")


def test_qread_masks_control_characters(ask):
    text = ask("qmail-qread", notice(1, 0, 1, b"a\nb\x1b[2J@\xc3\xa9", 1), recipients((0, "T", b"x\t\x7f@y")), frame("O", bytes(8)),
               frame("A"))
    assert text == "1 Jan 1970 00:00:00 GMT  #1  1  <a?b?[2J@é>\n\tremote\tx??@y\n"


def test_qstat_counts(ask):
    assert ask("qmail-qstat", HELLO, frame("A")) == \
        "messages in queue: 0\nmessages in queue but not yet preprocessed: 0\n"
    assert ask("qmail-qstat", notice(1, 0, 1, b"", 0, tried=1), frame("O", bytes(8)),
               notice(2, 0, 1, b"", 1), recipients((0, "T", b"a@b")), frame("O", bytes(8)), frame("A")) == \
        "messages in queue: 2\nmessages in queue but not yet preprocessed: 1\n"


@pytest.mark.parametrize("program", ["qmail-qread", "qmail-qstat"])
@pytest.mark.parametrize("frames", [
    [],
    [HELLO],
    [notice(1, 0, 1, b"", 0)],
    [notice(1, 0, 1, b"", 0), frame("A")],
    [frame("O", bytes(8))],
    [recipients((0, "T", b"a"))],
    [notice(1, 0, 1, b"a\0b", 0)],
    [frame("N", b"short")],
    [frame("Z")],
    [notice(1, 0, 1, b"", 1), frame("R", b"\0\0\0\0Tno end")],
    [notice(1, 0, 1, b"", 1), frame("R", b"\0\0\0")],
    [notice(1, 0, 1, b"", 1), recipients((0, "X", b"a"))],
    [notice(1, 0, 1, b"", 1), frame("R", b"\0\0\0\0Da\0no end")],
    [b"\xff\xff\xff\xffN"],
], ids=lambda f: "_".join(str(len(x)) for x in f) or "nothing")
def test_L3_a_keeper_that_talks_nonsense(ask, program, frames):
    ask(program, *frames, code=111)


@pytest.mark.parametrize("program", ["qmail-qread", "qmail-qstat"])
def test_without_a_keeper(ask, program):
    done = ask.tree.run(program)
    assert done.returncode == 111 and b"unable to ask qmail-queued" in done.stderr
    assert ask.tree.run(program, "argument").returncode == 100


def test_without_locals_and_me(ask):
    (ask.tree.control / "me").unlink()
    (ask.tree.control / "locals").unlink()
    done = ask.tree.run("qmail-qread")
    assert done.returncode == 111 and b"control/" in done.stderr


def test_with_the_real_keeper(stopped):
    stopped.need("qmail-qread", "qmail-qstat")
    stopped.start_keeper()
    assert stopped.run("qmail-qstat", check=True).stdout.startswith(b"messages in queue: 0\n")
    stopped.queue("Subject: x\n\nx\n", "ann@example.org", "ana@" + stopped.control.joinpath("me").read_text().strip(), "b@far.example")
    text = stopped.run("qmail-qread", check=True).stdout.decode()
    assert " GMT  #" in text and "  <ann@example.org>\n\tlocal\tana@" in text and "\n\tremote\tb@far.example\n" in text
    assert stopped.run("qmail-qstat", check=True).stdout == \
        b"messages in queue: 1\nmessages in queue but not yet preprocessed: 1\n"
