"""qmail-showctl: every control file's effective value, and what nobody reads."""
import os
import re

import pytest

from conftest import SOURCE


@pytest.fixture
def show(tree):
    tree.need("qmail-showctl")

    def run(*files, code=0):
        done = tree.run("qmail-showctl", *files)
        assert (done.returncode, done.stderr != b"") == (code, code == 100), done.stderr
        return done.stdout.decode()

    run.tree = tree
    return run


def test_says_what_holds_without_files(show):
    for path in show.tree.control.iterdir():
        path.unlink()
    show.tree.write("control/me", "mail.one.example \r\n")
    text = show()
    assert f"home: {show.tree.home}\n" in text
    for line in ("me: mail.one.example", "locals: mail.one.example (default)", "defaulthost: mail.one.example (default)",
                 "queuelifetime: 604800 (default)", "concurrencyremote: 20 (default)", "bouncefrom: MAILER-DAEMON (default)",
                 "virtualdomains: none (default)", "rcpthosts: mail.one.example (default)", "morercpthosts.cdb: none (default)"):
        assert f"\n{line}\n" in text
    assert "unknown" not in text


def test_without_me(show):
    for path in show.tree.control.iterdir():
        path.unlink()
    text = show()
    assert "\nme: none (default) (missing: needed by all)\n" in text
    assert "\nlocals: none (default) (missing: needed by qmail-send, qmail-rcptd, qmail-submitd, qmail-qread, qmail-account)\n" in text
    assert "\ndefaulthost: defaulthost (default)\n" in text


def test_values_lists_and_maps(show):
    show.tree.write("control/concurrencylocal", "7 of them\n")
    show.tree.write("control/queuelifetime", "a week\n")
    show.tree.write("control/locals", "# mine\none.example\n\nTwo.example  \n")
    show.tree.write("control/percenthack", "#\n")
    show.tree.write("control/virtualdomains", "v.example:ana\nno colon\n")
    text = show()
    assert "\nconcurrencylocal: 7\n\t" in text
    assert "\nqueuelifetime: 604800 (default: the file does not start with a number)\n" in text
    assert "\nlocals: 2 entries\n\t\tone.example\n\t\tTwo.example\n\tdomains" in text
    assert "\npercenthack: 0 entries\n\tdomains" in text
    assert "\nvirtualdomains: 2 entries\n\t\tv.example:ana\n\t\tno colon (ignored: no colon)\n" in text


def test_control_characters_are_masked(show):
    show.tree.write("control/me", "mail\x1b[2Jx\n")
    show.tree.write("control/smtpgreeting", "a\x7fb\x00c\n")
    show.tree.write("control/od\nd\x1b", "")
    text = show()
    assert "\nme: mail?[2Jx\n" in text and "\nsmtpgreeting: a?b?c\n" in text
    assert "\nod?d?: unknown: no program here reads it\n" in text


def test_unknown_files_come_last(show):
    show.tree.write("control/virtualdomain", "x:y\n")
    show.tree.write("control/me~", "x\n")
    assert show().endswith("me~: unknown: no program here reads it\nvirtualdomain: unknown: no program here reads it\n")


def test_files_of_services_are_known(show):
    """What a service's run file names is a control file that the table has."""
    names = {name for run in (SOURCE / "service").glob("*/run") for name in re.findall(r"control/([a-z0-9.]*[a-z0-9])", run.read_text())}
    assert "tcp.pop3.cdb" in names
    for name in names:
        assert name in show(name) and "unknown" not in show(name)


def test_compiled_table(show):
    show.tree.write("control/morercpthosts", "more.example\n")
    assert "morercpthosts.cdb: missing: morercpthosts is not in force until it is compiled\n" in show("morercpthosts.cdb")
    cdb = show.tree.write("control/morercpthosts.cdb", "")
    assert "morercpthosts.cdb: there\n" in show("morercpthosts.cdb")
    os.utime(cdb, (1, 1))
    assert "morercpthosts.cdb: older than what it is made from\n" in show("morercpthosts.cdb")


def test_one_file(show):
    assert show("queuelifetime", "me").count("\n") == 4
    show("nonsense", code=100)
    show("-x", code=100)


def test_unreadable_file(show):
    (show.tree.control / "locals").unlink()
    (show.tree.control / "locals").mkdir()
    assert "\nlocals: cannot be read: Invalid argument\n" in show(code=111)
