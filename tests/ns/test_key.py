"""Who can open a vault: passphrases, recovery codes, identities, and the data key behind them."""

import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import time

import pytest

from nsinit import CHEAP, KEY, OWNER, PASSPHRASE, UNLOCK, Client, children, is_alive, tree, until
from test_asking import Window

OLD, NEW, THIRD = PASSPHRASE, b"another one", b"and a third"
CODE = re.compile(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){8}")


class Owner:
    """A pod with a vault, and somebody who changes its slots. The secret in it tells one vault from another."""

    def __init__(self, pod, place, state):
        self.pod, self.place, self.state = pod, place, state

    def file(self, content):
        path = self.place.work / f"given-{len(os.listdir(self.place.work))}"
        path.write_bytes(content)
        os.chown(path, OWNER, OWNER)
        return str(path)

    def key(self, *words, passphrase=OLD, new=None):
        words = list(words)
        if new is not None:
            words += ["--new-passphrase-file", self.file(new)]
        return self.pod.tazpod("key", *words, passphrase=passphrase)

    def ok(self, *words, **how):
        done = self.key(*words, **how)
        assert done.returncode == 0, (words, done, self.pod.log())
        return done.stdout.decode()

    def refused(self, word, *words, code=73, **how):
        before = self.place.vault.read_bytes()
        done = self.key(*words, **how)
        assert done.returncode == code and f"[{word}]".encode() in done.stderr, (words, done)
        assert self.place.vault.read_bytes() == before and not self.place.temporaries()
        return done

    def slots(self):
        """{number: type}"""
        return {int(line.split()[0]): line.split()[1] for line in self.ok("list", passphrase=None).splitlines()}

    def verify(self, file, passphrase):
        return self.pod.tazpod("verify", str(file), passphrase=passphrase).returncode

    def opens(self, passphrase, *words):
        """The vault in place, with what was saved in it."""
        if self.pod.status()["state"] == "open":
            self.pod.ok("lock")
        done = self.pod.tazpod("unlock", *words, passphrase=passphrase)
        if done.returncode:
            return done.returncode
        assert (self.pod.secrets / "key").read_bytes() == b"a secret"
        return 0


@pytest.fixture(params=["open", "locked"])
def owner(request, start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.ok("save" if request.param == "open" else "lock")
    return Owner(pod, place, request.param)


def test_a_second_passphrase_opens_it_beside_the_first(owner):
    owner.ok("add", "--label", "of the team", new=NEW)
    assert owner.slots() == {0: "passphrase", 1: "passphrase"}
    assert "of the team" in owner.ok("list", passphrase=None)
    assert owner.pod.status()["state"] == owner.state
    assert owner.opens(OLD) == owner.opens(NEW) == 0
    assert owner.opens(THIRD) == 77


def test_a_changed_passphrase_opens_it_and_the_old_one_what_was_before(owner):
    owner.ok("passwd", new=NEW)
    assert owner.slots() == {0: "passphrase"}
    assert owner.opens(OLD) == 77 and owner.opens(NEW) == 0
    earlier = owner.place.vault.with_name("vault.tpv.1")
    assert owner.verify(earlier, OLD) == 0 and owner.verify(earlier, NEW) == 77


def test_who_does_not_know_one_changes_nothing(owner):
    for words in (["passwd"], ["add"]):
        owner.refused("wrong-passphrase", *words, code=77, passphrase=NEW, new=THIRD)
    for words in (["remove", "0", "--force"], ["rekey", "--force"], ["recovery"]):
        owner.refused("wrong-passphrase", *words, code=77, passphrase=NEW)
    assert owner.opens(OLD) == 0


def test_a_new_passphrase_that_is_none_changes_nothing(owner):
    owner.refused("empty-passphrase", "passwd", code=77, new=b"\n")
    owner.refused("long-passphrase", "passwd", code=77, new=b"x" * 1025)
    owner.refused("wrong-passphrase", "passwd", code=77, new=b"a\0b")
    owner.ok("passwd", new=b"x" * 1024)
    assert owner.opens(b"x" * 1024) == 0


# ---- removing ----


def test_what_is_removed_opens_nothing_any_more_and_its_place_is_given_again(owner):
    owner.ok("add", new=NEW)
    owner.ok("add", new=THIRD)
    owner.ok("remove", "1")
    assert owner.slots() == {0: "passphrase", 2: "passphrase"}
    assert owner.opens(NEW) == 77 and owner.opens(THIRD) == 0
    owner.ok("add", new=NEW)
    assert owner.slots() == {0: "passphrase", 1: "passphrase", 2: "passphrase"}
    assert owner.opens(NEW) == owner.opens(THIRD) == owner.opens(OLD) == 0


def test_the_last_slot_and_ones_own_take_force(owner):
    owner.refused("last-slot", "remove", "0")
    owner.ok("add", new=NEW)
    owner.refused("own-slot", "remove", "0")
    owner.ok("remove", "0", "--force")
    assert owner.slots() == {1: "passphrase"}
    assert owner.opens(OLD) == 77 and owner.opens(NEW) == 0
    for number in ("0", "7"):
        owner.refused("no-slot", "remove", number, passphrase=NEW)
    for number in ("8", "-1", "x", "01"):
        assert owner.key("remove", number, passphrase=NEW).returncode == 64


def test_a_vault_without_slots_can_still_be_saved_while_it_is_open(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    owner = Owner(pod, place, "open")
    owner.ok("remove", "0", "--force")
    assert owner.slots() == {}
    place.write("key", b"a secret")
    pod.ok("save")
    owner.ok("list", passphrase=None)
    assert owner.key("add", new=NEW).returncode == 77


def test_at_a_terminal_it_asks(owner):
    for answer, code, slots in ((b"n", 73, {0: "passphrase"}), (b"y", 0, {})):
        window = Window(owner.pod, "key", "remove", "0")
        window.expect(b"Passphrase: ")
        window.line(OLD)
        window.expect(b"Go on? [y/N] ")
        window.line(answer)
        assert window.ends() == code
        assert owner.slots() == slots
    assert owner.pod.status()["state"] == owner.state


# ---- recovery codes ----


def recovery_code(owner, **how):
    code = owner.ok("recovery", **how).strip()
    assert CODE.fullmatch(code), code
    return code


def test_a_recovery_code_opens_it_however_it_is_written(owner):
    code = recovery_code(owner)
    assert owner.slots() == {0: "passphrase", 1: "recovery"}
    for text in (code, code.lower(), code.replace("-", ""), code.replace("-", " "), code.replace("0", "O").replace("1", "l")):
        assert owner.opens(text.encode() + b"\n", "--recovery") == 0
    assert owner.opens(code.encode()) == 77, "it is no passphrase"
    mistyped = code[:-1] + ("0" if code[-1] != "0" else "1")
    assert owner.opens(mistyped.encode(), "--recovery") == 77
    assert code not in owner.pod.log() and code.encode() not in owner.place.vault.read_bytes()


def test_the_next_code_makes_the_last_one_void(owner):
    first = recovery_code(owner)
    second = recovery_code(owner)
    assert owner.slots() == {0: "passphrase", 1: "recovery"}
    assert owner.opens(first.encode(), "--recovery") == 77 and owner.opens(second.encode(), "--recovery") == 0


def test_who_forgot_his_passphrase_makes_a_new_one_with_the_code(owner):
    code = recovery_code(owner).encode()
    owner.ok("passwd", "--recovery", passphrase=code, new=NEW)
    assert owner.slots() == {0: "passphrase", 1: "recovery"}
    assert owner.opens(OLD) == 77 and owner.opens(NEW) == 0 and owner.opens(code, "--recovery") == 0
    owner.ok("add", new=THIRD, passphrase=NEW)
    owner.refused("which-slot", "passwd", "--recovery", passphrase=code, new=OLD)
    owner.ok("passwd", "--recovery", "--slot", "2", passphrase=code, new=OLD)
    assert owner.opens(NEW) == owner.opens(OLD) == 0 and owner.opens(THIRD) == 77
    owner.refused("no-slot", "passwd", "--slot", "1", passphrase=NEW, new=OLD)


def test_a_vault_made_at_a_terminal_shows_a_code_once_that_opens_it(start, place):
    pod = start("sleep", "infinity", place=place).ready()
    window = Window(pod, "unlock", "--create", *CHEAP)
    window.expect(b"New passphrase: ")
    window.line(OLD)
    window.expect(b"Again: ")
    window.line(OLD)
    assert window.ends() == 0
    window.drain()
    code = CODE.search(window.seen.decode()).group()
    assert window.seen.decode().count(code) == 1
    place.write("key", b"a secret")
    owner = Owner(pod, place, "open")
    assert owner.opens(code.encode(), "--recovery") == 0
    # And no other is offered.
    pod.ok("lock")
    again = Window(pod, "unlock")
    again.expect(b"Passphrase: ")
    again.line(OLD)
    assert again.ends() == 0
    again.drain()
    assert b"recovery code" not in again.seen


@pytest.mark.parametrize("answer", [b"y\r", b"n\r", b"\r", b"\x03"], ids=["yes", "no", "nothing", "ctrl-c"])
@pytest.mark.parametrize("verb", ["unlock", "shell"])
def test_a_vault_without_a_code_is_offered_one_at_a_terminal(start, place, verb, answer):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.ok("lock")
    window = Window(pod, verb)
    window.expect(b"Passphrase: ")
    window.line(OLD)
    window.expect(b"Make one now? [y/N] ")
    window.type(answer)
    if verb == "shell" and answer != b"\x03":
        window.expect(b"the vault stays open")
        window.type(b"exit 5\r")
    assert window.ends() == (130 if answer == b"\x03" else 5 if verb == "shell" else 0)
    window.drain()
    code = CODE.search(window.seen.decode())
    assert bool(code) == (answer == b"y\r") and pod.status()["state"] == "open"
    assert list(Owner(pod, place, "open").slots().values()) == ["passphrase"] + ["recovery"] * bool(code)


def test_without_a_terminal_none_is_offered(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    pod.ok("lock")
    done = pod.tazpod("unlock", passphrase=OLD)
    assert done.returncode == 0 and b"recovery" not in done.stderr


# ---- identities ----


def new_identity(owner, name="identity"):
    path = owner.place.work / name
    public = owner.ok("new-identity", str(path), passphrase=None).strip()
    assert public.startswith("tazpod-recipient-") and path.stat().st_mode & 0o7777 == 0o600
    assert path.stat().st_uid == OWNER and f"# {public}\n" in path.read_text()
    return str(path), public


def test_an_identity_opens_it_without_anybody_being_asked(owner):
    mine, public = new_identity(owner)
    other, _ = new_identity(owner, "other")
    owner.ok("add", "--recipient", public)
    assert owner.slots() == {0: "passphrase", 1: "identity"} and public in owner.ok("list", passphrase=None)
    assert owner.opens(None, "--identity-file", mine) == 0
    assert owner.opens(None, "--identity-file", other) == 77
    assert owner.opens(None, "--identity-file", str(owner.place.vault)) == 77, "no identity at all"
    assert owner.opens(None, "--identity-file", str(owner.place.work / "absent")) == 64
    owner.ok("passwd", "--identity-file", mine, passphrase=None, new=NEW)
    assert owner.opens(OLD) == 77 and owner.opens(NEW) == 0
    owner.ok("remove", "1", passphrase=NEW)
    assert owner.opens(None, "--identity-file", mine) == 77


def test_a_pair_of_keys_replaces_no_file(owner):
    path, _ = new_identity(owner)
    before = open(path, "rb").read()
    assert owner.key("new-identity", path, passphrase=None).returncode == 73
    assert open(path, "rb").read() == before
    assert owner.key("new-identity", passphrase=None).returncode == 64


def test_a_public_key_that_is_mistyped_is_noticed(owner):
    _, public = new_identity(owner)
    for text in (public[:-1], public[:-1] + ("0" if public[-1] != "0" else "1"), "tazpod-recipient-", "x",
                 public.replace("tazpod-recipient-", "TAZPOD-IDENTITY-")):
        owner.refused("usage", "add", "--recipient", text, code=64)


# ---- a new data key ----


def test_a_new_data_key_takes_along_what_it_can_and_says_what_it_can_not(owner):
    mine, public = new_identity(owner)
    first = recovery_code(owner)
    owner.ok("add", "--recipient", public)
    owner.ok("add", "--label", "of the team", new=NEW)
    assert b"3 (of the team)" in owner.refused("drops-slots", "rekey").stderr
    second = owner.ok("rekey", "--force").strip()
    assert CODE.fullmatch(second) and second != first
    assert owner.slots() == {0: "passphrase", 1: "recovery", 2: "identity"}
    assert owner.opens(OLD) == owner.opens(None, "--identity-file", mine) == owner.opens(second.encode(), "--recovery") == 0
    assert owner.opens(NEW) == owner.opens(first.encode(), "--recovery") == 77
    assert owner.verify(owner.place.vault.with_name("vault.tpv.1"), NEW) == 0, "what was before is as it was"
    owner.pod.unlock()
    owner.place.write("more", b"saved under the new key")
    owner.pod.ok("save")
    assert owner.opens(OLD) == 0 and (owner.pod.secrets / "more").read_bytes() == b"saved under the new key"


def test_a_new_data_key_has_nothing_of_the_old_one(owner):
    before = owner.place.vault.read_bytes()
    owner.ok("rekey")
    after = owner.place.vault.read_bytes()
    assert before[16:32] == after[16:32], "it is the same vault"
    assert before[80:112] != after[80:112], "the public key that comes from it"


def test_with_the_recovery_code_it_stays_the_recovery_code(owner):
    code = recovery_code(owner).encode()
    done = owner.key("rekey", "--recovery", "--force", passphrase=code)
    assert done.returncode == 0 and done.stdout == b"", done
    assert owner.slots() == {1: "recovery"} and owner.opens(code, "--recovery") == 0


def test_a_new_data_key_takes_a_vault_that_nobody_holds(start, place):
    inside = f"until cd {place.secrets} 2>/dev/null; do sleep 0.02; done; echo inside; exec sleep 1000"
    pod = start("sh", "-c", inside, place=place, options=("--lock-wait", "200ms")).ready().create()
    owner = Owner(pod, place, "open")
    pod.wait_out("inside")
    owner.refused("held", "rekey", code=75)
    assert pod.status()["state"] == "open"


def test_an_open_vault_gets_none_by_whoever_talks_to_the_socket(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    assert send(Owner(pod, place, "open"), order(op=6, fresh=(0, b"")))["word"] == "open"
    pod.ok("lock")
    assert send(Owner(pod, place, "locked"), order(op=6, fresh=(0, b"")))["code"] == 0
    pod.unlock()


@pytest.mark.parametrize("drop", [False, True], ids=["kept", "dropped"])
def test_earlier_generations_stay_unless_they_are_to_go(owner, drop):
    owner.ok("rekey", *(["--drop-history"] if drop else []))
    kept = sorted(path.name for path in owner.place.vault.parent.glob("vault.tpv.[0-9]*"))
    assert kept == ([] if drop else ["vault.tpv.1", "vault.tpv.2"])
    assert owner.opens(OLD) == 0


# ---- cost ----


def test_a_new_slot_costs_no_less_than_the_one_before_unless_that_is_meant(owner):
    owner.ok("passwd", "--kdf-memory", "16M", "--kdf-time", "2", new=NEW)
    assert "2 passes over 16 MiB" in owner.ok("list", passphrase=None)
    owner.refused("weaker", "passwd", "--kdf-memory", "8M", passphrase=NEW, new=OLD)
    owner.refused("weaker", "add", "--kdf-time", "1", passphrase=NEW, new=OLD)
    owner.ok("passwd", passphrase=NEW, new=THIRD)
    assert "2 passes over 16 MiB" in owner.ok("list", passphrase=None), "by default it stays"
    owner.ok("passwd", "--kdf-memory", "8M", "--kdf-time", "1", "--weaker", passphrase=THIRD, new=OLD)
    assert "1 passes over 8 MiB" in owner.ok("list", passphrase=None)
    assert owner.opens(OLD) == 0
    assert owner.key("passwd", "--kdf-memory", "2G", new=NEW).returncode == 64


# ---- limits of the table ----


def test_eight_slots_and_no_more(owner):
    for number in range(1, 8):
        owner.ok("add", new=b"passphrase %d" % number)
    owner.refused("no-slot", "add", new=NEW)
    owner.refused("no-slot", "recovery")
    assert all(owner.opens(b"passphrase %d" % number) == 0 for number in range(1, 8))


def test_a_label_is_plain_text_of_at_most_32_bytes(owner):
    owner.ok("add", "--label", "x" * 32, new=NEW)
    for label in ("x" * 33, "a\nb", "a\x7fb"):
        assert owner.key("add", "--label", label, new=NEW).returncode == 64
    owner.ok("add", "--label", "Schl\u00fcssel", new=THIRD)
    assert "Schl\u00fcssel" in owner.ok("list", passphrase=None)
    assert owner.opens(THIRD) == 0


def test_a_label_that_is_not_utf8_never_gets_into_a_vault(owner):
    done = subprocess.run([*owner.pod.command("key", "add")[0], "--label", b"\xff", "--passphrase-fd", "0",
                           "--new-passphrase-file", owner.file(NEW)], input=OLD, capture_output=True,
                          **owner.pod.command("key")[1])
    assert done.returncode == 64, done
    assert owner.opens(OLD) == 0


def test_a_label_in_a_file_that_nobody_has_proven_steers_no_terminal(owner):
    header = bytearray(owner.place.vault.read_bytes())
    label = "a\u009b2Jb\u202ec\u00fcd\u200f\u2067".encode()
    header[112 + 32:112 + 64] = label.ljust(32, b"\0")
    header[312:328] = hashlib.blake2b(header[:312], digest_size=16).digest()
    owner.place.vault.write_bytes(header)
    assert "a?2Jb?c\u00fcd??  " in owner.ok("list", passphrase=None)
    assert json.loads(owner.ok("list", "--json", passphrase=None))["0"]["label"].encode() == label


# ---- beside other work ----


def test_what_is_in_ram_has_no_part_in_it(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    owner = Owner(pod, place, "open")
    place.write("key", b"a secret")
    pod.ok("save")
    place.write("unsaved", b"as yet")
    owner.ok("passwd", new=NEW)
    assert (pod.secrets / "unsaved").read_bytes() == b"as yet"
    size = place.vault.stat().st_size
    pod.ok("save")
    assert place.vault.stat().st_size > size
    assert owner.opens(NEW) == 0 and (pod.secrets / "unsaved").read_bytes() == b"as yet"


def test_a_file_that_somebody_else_changed_is_not_touched(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    owner = Owner(pod, place, "open")
    place.write("key", b"a secret")
    pod.ok("save")
    place.vault.write_bytes(place.vault.with_name("vault.tpv.1").read_bytes())
    owner.refused("conflict", "passwd", code=75, new=NEW)
    place.vault.unlink()
    done = owner.key("passwd", new=NEW)
    assert done.returncode == 66 and b"[no-vault]" in done.stderr and not place.vault.exists()


@pytest.mark.parametrize("vault", ["open", "locked"])
def test_a_stop_in_the_middle_leaves_the_old_file_or_the_new_one_and_saves_what_is_in_ram(start, place, vault):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.ok("lock" if vault == "locked" else "save")
    if vault == "open":
        place.write("unsaved", b"as yet")
    owner = Owner(pod, place, vault)
    words, keywords = pod.command("key", "passwd", "--new-passphrase-file", owner.file(NEW), "--passphrase-file",
                                  owner.file(OLD))
    with subprocess.Popen(words, stderr=subprocess.PIPE, **keywords) as client:
        worker = pod.stop_worker("rewrite")
        pod.signal(signal.SIGTERM)
        if vault == "locked":  # it is dropped, and nobody waits for it
            assert pod.wait() == 128 + signal.SIGTERM
        else:
            os.kill(worker, signal.SIGCONT)
            assert pod.wait() == 128 + signal.SIGTERM, pod.log()
        client.communicate()
    assert not is_alive(worker)
    again = start("sleep", "infinity", place=place).ready()
    wrong, right = (NEW, OLD) if vault == "locked" else (OLD, NEW)
    assert again.tazpod("unlock", passphrase=wrong).returncode == 77
    assert again.tazpod("unlock", passphrase=right).returncode == 0
    assert (again.secrets / "key").read_bytes() == b"a secret"
    assert vault == "locked" or (again.secrets / "unsaved").read_bytes() == b"as yet"


def test_saves_and_locks_that_come_meanwhile_wait_for_it(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    owner = Owner(pod, place, "open")
    place.write("key", b"a secret")
    words, keywords = pod.command("key", "passwd", "--passphrase-file", owner.file(OLD), "--new-passphrase-file",
                                  owner.file(OLD))
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **keywords) as client:
        worker = pod.stop_worker("rewrite")
        lock_words, lock_keywords = pod.command("lock")
        with subprocess.Popen(lock_words, stderr=subprocess.PIPE, **lock_keywords) as lock:
            until(lambda: pod.status()["state"] in ("saving", "locking"), "it is under way")
            os.kill(worker, signal.SIGCONT)
            assert lock.wait() == 0 and client.wait() == 0
    assert owner.opens(OLD) == 0


def test_a_client_that_goes_away_takes_its_order_along_while_the_vault_is_locked(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    pod.ok("lock")
    owner = Owner(pod, place, "locked")
    before = place.vault.read_bytes()
    words, keywords = pod.command("key", "passwd", "--new-passphrase-file", owner.file(NEW), "--passphrase-file",
                                  owner.file(OLD), inside=False)
    with subprocess.Popen(words, stderr=subprocess.PIPE, **keywords) as client:
        worker = pod.stop_worker("rewrite")
        client.kill()
        until(lambda: not is_alive(worker), "its end")
    until(lambda: children(pod.pid) == [pod.main()], "no worker")
    assert place.vault.read_bytes() == before
    pod.unlock()


def test_a_key_that_is_asked_for_during_an_unlock_waits_a_while(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    pod.ok("lock")
    owner = Owner(pod, place, "locked")
    passphrase = owner.file(OLD)
    words, keywords = pod.command("unlock", "--passphrase-file", passphrase)
    with subprocess.Popen(words, stderr=subprocess.PIPE, **keywords) as unlocking:
        worker = pod.stop_worker("open")
        words, keywords = pod.command("key", "passwd", "--passphrase-file", passphrase, "--new-passphrase-file", owner.file(NEW))
        began = time.monotonic()
        with subprocess.Popen(words, stderr=subprocess.PIPE, **keywords) as changing:
            time.sleep(0.2)  # it is told to try again, some times
            assert changing.poll() is None
            os.kill(worker, signal.SIGCONT)
            assert unlocking.wait() == 0 and changing.wait() == 0
        assert time.monotonic() - began < 10
    pod.ok("lock")
    assert pod.tazpod("unlock", passphrase=NEW).returncode == 0


def test_everything_else_in_the_vault_is_as_it_was(owner):
    if owner.state == "locked":
        owner.pod.unlock()
    for number in range(40):
        owner.place.write(f"file-{number}", os.urandom(5000 * number))
    (owner.pod.secrets / "link").symlink_to("key")
    owner.pod.ok("save")
    content = tree(owner.pod.secrets)
    owner.pod.ok("lock")
    for words, how in ((["add"], {"new": NEW}), (["rekey", "--force"], {}), (["passwd"], {"new": THIRD})):
        owner.ok(*words, **how)
    owner.pod.ok("unlock", passphrase=THIRD)
    assert {name: what for name, what in tree(owner.pod.secrets).items()} == content


# ---- orders as nobody writes them ----

ADD, REMOVE = 3, 4


def order(op=ADD, zero=0, version=1, flags=0, slot=255, reserved=bytes(3), ops=0, memory=0, label=b"", current=None, fresh=None):
    """docs/control-protocol.md, "Order". A credential is (type, bytes), or its 1032 bytes."""

    def credential(given):
        if isinstance(given, bytes):
            return given
        kind, secret = given
        return struct.pack("=BBHI", kind, 0, len(secret), 0) + secret.ljust(1024, b"\0")

    return (struct.pack("=BBBBB3sIIQ32s", zero, version, op, flags, slot, reserved, ops, memory, 0, label) +
            credential(current or (1, OLD)) + credential(fresh or (1, NEW)))


def send(owner, data, kind=KEY):
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe:
        pipe.write(data)
    with Client(owner.place.socket) as client:
        try:
            return client.ask(kind, [reader])
        finally:
            os.close(reader)


BAD = {
    "version": {"version": 2}, "op 0": {"op": 0}, "op 8": {"op": 8}, "op of an unlock": {"op": 1}, "op of a creation": {"op": 2},
    "reserved": {"reserved": b"\0\1\0"}, "no credential": {"current": (0, b"")},
    "a type that is none": {"current": (4, b"x")}, "an empty passphrase": {"current": (1, b"")},
    "a passphrase with a zero": {"current": (1, b"a\0b")}, "a short code": {"current": (2, bytes(19))},
    "a long code": {"current": (2, bytes(21))}, "a short identity": {"current": (3, bytes(31))},
    "a length beyond its place": {"fresh": struct.pack("=BBHI", 1, 0, 1025, 0) + b"x" * 1024},
    "reserved of a credential": {"fresh": struct.pack("=BBHI", 1, 1, 3, 0) + b"xyz".ljust(1024, b"\0")},
    "bytes without a type": {"fresh": struct.pack("=BBHI", 0, 0, 3, 0) + b"xyz".ljust(1024, b"\0")},
    "no new credential": {"fresh": (0, b"")},
}


@pytest.mark.parametrize("what", BAD)
def test_an_order_that_can_not_be_understood_changes_nothing(owner, what):
    before = owner.place.vault.read_bytes()
    answer = send(owner, order(**BAD[what]))
    assert (answer["code"], answer["word"]) == (70, "protocol"), answer
    assert owner.place.vault.read_bytes() == before and not owner.place.temporaries()
    assert owner.pod.status()["state"] == owner.state


def test_the_same_order_well_written_is_followed(owner):
    answer = send(owner, order(label="Schlüssel".encode()))
    assert answer["code"] == 0 and owner.slots() == {0: "passphrase", 1: "passphrase"}


@pytest.mark.parametrize("data", [b"\0", b"\0" * 2119, b"\0" * 2121, order() + b"x", order()[:-1]], ids=len)
def test_one_of_another_size_is_a_passphrase_with_a_zero(owner, data):
    assert send(owner, data)["code"] == 77
    assert owner.slots() == {0: "passphrase"}


def test_what_no_reader_would_take_is_never_written(owner):
    """Whoever talks to the socket himself can't lock the owner out."""
    before = owner.place.vault.read_bytes()
    for fields in ({"label": b"\xff"}, {"label": b"\x1b[2J"}, {"ops": 17}, {"memory": 4096},
                   {"ops": 16, "memory": 1 << 20}):
        answer = send(owner, order(**fields))
        assert answer["code"] in (65, 73), (fields, answer)
        assert owner.place.vault.read_bytes() == before and not owner.place.temporaries()
    assert send(owner, order(slot=9, op=REMOVE))["word"] == "no-slot"
    assert owner.opens(OLD) == 0


def test_an_order_in_the_place_of_a_passphrase_opens_and_does_nothing_else(owner):
    if owner.state == "open":
        owner.pod.ok("lock")
    before = owner.place.vault.read_bytes()
    assert send(owner, order(op=ADD), UNLOCK)["word"] == "protocol"
    assert send(owner, order(op=1), UNLOCK)["code"] == 0
    assert owner.place.vault.read_bytes() == before and owner.slots() == {0: "passphrase"}


def test_a_passphrase_alone_is_no_order(owner):
    assert send(owner, OLD)["word"] == "protocol"
