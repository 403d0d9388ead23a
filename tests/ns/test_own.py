"""The backend `own`: the open vault is a tmpfs that process 1 mounts itself, with SYS_ADMIN.

Process 1 is root, or uid 1000 with the capability of its file. Either way the mount belongs to the
pod's mount namespace: the test looks at it through /proc/PID/root.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess

import pytest

from nsinit import (CHEAP, DEADLINE_S, LOCK, OWNER, PASSPHRASE, PR_SET_NO_NEW_PRIVS, SYS_ADMIN, UNLOCK, Client,
                    arguments, capabilities, children, is_alive, libc, mount, mount_id, mounts, programs, request,
                    status_field, tree, umount, until)

WAYS = pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
ADMIN = 1 << SYS_ADMIN


@pytest.fixture
def own(start, place):
    """A pod that may mount, in a place, which is `place` unless another is given."""

    def make(uid, *command, **how):
        how = {"place": place, "uid": uid, "may_mount": True, **how}
        return start(*(command or ("sleep", "infinity")), **how).ready()

    return make


class Inside:
    """A shell in the pod, as `docker exec` starts one. It says a line when it is there and goes on
    when it is told to; while it waits it can be looked at."""

    def __init__(self, pod, script, uid=0, before=(), pid_namespace=True):
        words = ["nsenter", "--target", str(pod.pid), "--mount", *(["--pid"] if pid_namespace else []), "--",
                 "setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *before, "sh", "-c", script]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.says() == "there"
        below = children(self.process.pid)
        self.pid = below[0] if below else self.process.pid

    def says(self):
        return self.process.stdout.readline().strip()

    def goes_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(DEADLINE_S)
        self.process.stdout.close()


@pytest.fixture
def inside():
    made = []

    def make(*args, **how):
        made.append(Inside(*args, **how))
        return made[-1]

    yield make
    for shell in made:
        shell.ends()


def ours(pid, place):
    """{point: mount} of what is mounted in the run directory."""
    return {pathlib.Path(point).relative_to(place.run).as_posix(): (options, kind, super_options)
            for point, options, kind, super_options in mounts(pid).values() if point.startswith(f"{place.run}/")}


def assert_nothing_is_there(pod, place):
    assert not pod.secrets.exists()
    assert ours(pod.pid, place) == {}
    assert place.left_in_ram() == []


def assert_published(pod, place):
    assert list(ours(pod.pid, place)) == ["secrets"]
    assert mount_id(pod.secrets) != mount_id(pod.at(place.run))


def descriptors(pod):
    """How many process 1 holds: one of them might be all that keeps a mount alive."""
    return len(os.listdir(f"/proc/{pod.pid}/fd"))


def fill(pod):
    pod.write("key", b"a secret", 0o640)
    (pod.secrets / "folder").mkdir(mode=0o750)
    (pod.secrets / "folder" / "deep").write_bytes(os.urandom(300_000))
    (pod.secrets / "folder" / "read-only").write_bytes(b"r")
    (pod.secrets / "folder" / "read-only").chmod(0o400)
    (pod.secrets / "folder").chmod(0o550)
    (pod.secrets / "link").symlink_to("folder/deep")
    for path in pod.secrets.rglob("*"):
        os.chown(path, OWNER, OWNER, follow_symlinks=False)
    return tree(pod.secrets)


def on_disk(place):
    """A run directory without RAM beneath it."""
    umount(place.run)
    place.run.chmod(0o700)
    os.chown(place.run, OWNER, OWNER)


def kernel_knows_noswap(place):
    """This kernel, asked by hand: from 6.4 on."""
    at = place.top / "noswap"
    at.mkdir()
    try:
        mount("tmpfs", at, "tmpfs", 0, "noswap")
    except OSError:
        return False
    umount(at)
    return True


# ---- what it is ----


@WAYS
def test_auto_takes_its_own_and_status_and_log_say_so(own, place, uid):
    pod = own(uid)
    assert pod.status()["ram"] == "own"
    assert " ram=own " in pod.log() and "why=" not in pod.log()
    assert_nothing_is_there(pod, place)


@WAYS
def test_the_mount_is_what_is_promised(own, place, uid):
    pod = own(uid).create()
    point, options, kind, super_options = mounts(pod.pid)[mount_id(pod.secrets)]
    assert (point, kind) == (str(place.secrets), "tmpfs")
    assert {"rw", "nosuid", "nodev"} <= set(options)
    assert {"size=65536k", "nr_inodes=131072", "mode=700", "uid=1000", "gid=1000"} <= set(super_options)
    assert ("noswap" in super_options) == kernel_knows_noswap(place)
    info = pod.secrets.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (OWNER, OWNER, 0o700)


@WAYS
def test_only_the_pod_sees_it_and_what_is_beneath_it_is_closed(own, place, uid):
    pod = own(uid).create()
    pod.write("key", b"a secret")
    assert os.listdir(place.secrets) == [], "the test is in another mount namespace"
    assert place.secrets.stat().st_mode & 0o7777 == 0


@WAYS
def test_the_size_is_what_was_asked_for_and_a_vault_that_does_not_fit_leaves_nothing(own, place, uid):
    pod = own(uid, options=("--ram-size", "8M")).create()
    assert "size=8192k" in mounts(pod.pid)[mount_id(pod.secrets)][3]
    pod.write("large", os.urandom(3 << 20))
    pod.ok("lock")
    pod.signal(signal.SIGTERM)
    pod.wait()
    narrow = own(uid, options=("--ram-size", "1M"))
    done = narrow.tazpod("unlock", passphrase=PASSPHRASE)
    assert done.returncode == 74 and b"[no-room]" in done.stderr, done.stderr
    assert_nothing_is_there(narrow, place)


# ---- its life ----


@WAYS
def test_create_save_lock_unlock_and_stop_bring_it_all_back(own, place, uid):
    pod = own(uid).create()
    content = fill(pod)
    pod.ok("save")
    assert_published(pod, place)
    pod.ok("lock")
    assert_nothing_is_there(pod, place)

    pod.unlock()
    assert_published(pod, place)
    assert tree(pod.secrets) == content
    pod.write("more", b"more")
    content = tree(pod.secrets)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert place.left_in_ram() == []
    info = place.vault.stat()
    assert (info.st_uid, info.st_mode & 0o7777) == (OWNER, 0o600)

    again = own(uid).unlock()
    assert tree(again.secrets) == content


@WAYS
def test_it_is_unpacked_where_nobody_looks_and_appears_whole(own, place, uid):
    pod = own(uid).create()
    for number in range(8):
        pod.write(f"big-{number}", os.urandom(4 << 20))
    content = tree(pod.secrets)
    pod.ok("lock")
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(UNLOCK), [reader])
        os.close(reader)
        unpacker = until(lambda: pod.workers().get("unpack"), "an unpacker that waits")
        assert_nothing_is_there(pod, place)
        os.write(writer, PASSPHRASE)
        os.close(writer)
        # Its tree is descriptor 4, on a mount that is in no namespace.
        unpacked = lambda: os.listdir(f"/proc/{unpacker}/fd/4")
        until(unpacked, "a first file")
        os.kill(unpacker, signal.SIGSTOP)
        assert 0 < len(unpacked()) < 8, "stopped on its way"
        assert_nothing_is_there(pod, place)
        os.kill(unpacker, signal.SIGCONT)
        assert client.receive()["code"] == 0
    assert_published(pod, place)
    assert tree(pod.secrets) == content


@WAYS
@pytest.mark.parametrize("end", ["wrong-passphrase", "client-gone", "worker-killed", "stop"])
def test_an_unlock_that_ends_badly_leaves_no_mount(own, place, uid, end):
    pod = own(uid).create()
    pod.ok("lock")
    before = descriptors(pod)
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(UNLOCK), [reader])
        os.close(reader)
        unpacker = until(lambda: pod.workers().get("unpack"), "an unpacker that waits")
        if end == "wrong-passphrase":
            os.write(writer, b"another")
        elif end == "worker-killed":
            os.kill(unpacker, signal.SIGKILL)
        elif end == "stop":
            pod.signal(signal.SIGTERM)
        if end == "client-gone":
            client.close()
        os.close(writer)
        if end in ("wrong-passphrase", "worker-killed"):
            assert client.receive()["code"] != 0
    if end == "stop":
        assert pod.wait() == 128 + signal.SIGTERM
        assert place.left_in_ram() == []
        return
    until(lambda: pod.status()["state"] == "locked", "the end of the attempt")
    assert_nothing_is_there(pod, place)
    until(lambda: descriptors(pod) <= before, "no descriptor more than before")
    pod.unlock()


@WAYS
def test_a_lock_that_can_not_save_brings_the_same_mount_back(own, make_place, uid):
    place = make_place(work_size="1m")
    pod = own(uid, place=place).create()
    pod.write("large", os.urandom(2 << 20))
    content, before = tree(pod.secrets), mount_id(pod.secrets)
    done = pod.tazpod("lock")
    assert done.returncode == 74 and b"[disk-full]" in done.stderr, done.stderr
    assert pod.status()["state"] == "open"
    assert mount_id(pod.secrets) == before
    assert_published(pod, place)
    assert tree(pod.secrets) == content
    (pod.secrets / "large").unlink()
    pod.ok("lock")
    assert_nothing_is_there(pod, place)


@WAYS
def test_during_the_save_of_a_lock_it_is_out_of_its_place(own, place, uid):
    pod = own(uid).create()
    pod.write("key", os.urandom(24 << 20))
    words, keywords = pod.command("lock")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, **keywords) as client:
        packer = pod.stop_worker("pack")
        assert not pod.secrets.exists()
        assert list(ours(pod.pid, place)) == [".locking"]
        os.kill(packer, signal.SIGCONT)
        assert client.wait(DEADLINE_S) == 0
    assert_nothing_is_there(pod, place)


@WAYS
def test_a_stop_leaves_no_mount_where_the_namespace_lives_on(own, place, inside, uid):
    pod = own(uid).create()
    fill(pod)
    neighbour = inside(pod, "echo there; read x", pid_namespace=False)
    assert "secrets" in ours(neighbour.pid, place)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert ours(neighbour.pid, place) == {}
    assert place.left_in_ram() == []


# ---- at lock: processes that are in the way ----


@WAYS
@pytest.mark.parametrize("by", ["root", "owner-in-a-user-namespace"])
def test_who_unshared_before_the_lock_keeps_a_mount_with_nothing_in_it(own, place, inside, uid, by):
    """Its copy of the mount can't be unmounted from here: every entry must have gone before."""
    pod = own(uid).create()
    fill(pod)
    by_name = f"find {place.secrets}/ -mindepth 1 2>/dev/null | wc -l"
    if by == "root":
        # It can't be looked at, so it may even stand inside.
        how = {"before": ("unshare", "--mount"), "uid": 0}
        script = f"cd {place.secrets}; echo there; read x; find . -mindepth 1 | wc -l; {by_name}; read x; find . -mindepth 1 | wc -l; {by_name}"
    else:
        how = {"before": ("unshare", "--user", "--map-current-user", "--mount"), "uid": OWNER}
        script = f"echo there; read x; {by_name}; {by_name}; read x; {by_name}; {by_name}"
    shell = inside(pod, script, **how)
    shell.goes_on()
    assert (shell.says(), shell.says()) == ("5", "5"), "it sees the vault"
    pod.ok("lock")
    assert_nothing_is_there(pod, place)
    shell.goes_on()
    assert (shell.says(), shell.says()) == ("0", "0")


HOLDS = {
    "a-working-directory": "cd {secrets}/folder",
    "the-top-as-working-directory": "cd {secrets}",
    "an-open-file": "exec 3<{secrets}/key",
    "a-file-open-for-writing": "exec 3>>{secrets}/key",
}


@WAYS
@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_who_holds_the_mount_does_not_keep_a_lock_from_emptying_it(own, place, inside, uid, hold):
    pod = own(uid).create()
    content = fill(pod)
    shell = inside(pod, f"{hold.format(secrets=place.secrets)}; echo there; read x")
    pod.ok("lock")
    assert pod.status()["state"] == "locked"
    assert not pod.secrets.exists()
    # Still in the table: a lazy unmount would have taken it out, and left it to live unseen.
    assert list(ours(pod.pid, place)) == [".busy-0"]
    assert os.listdir(pod.at(place.run / ".busy-0")) == []

    pod.unlock()
    assert tree(pod.secrets) == content
    assert set(ours(pod.pid, place)) == {"secrets", ".busy-0"}
    shell.ends()
    pod.ok("lock")
    pod.unlock()
    assert_published(pod, place)
    assert place.left_in_ram() == ["secrets"]


@WAYS
def test_each_that_is_held_is_set_aside_and_all_go_in_the_end(own, place, inside, uid):
    pod = own(uid).create()
    shells = []
    for number in range(3):
        if number:
            pod.unlock()
        shells.append(inside(pod, f"cd {place.secrets}; echo there; read x"))
        pod.ok("lock")
        assert set(ours(pod.pid, place)) == {f".busy-{n}" for n in range(number + 1)}
    for shell in shells:
        shell.ends()
    pod.unlock()
    assert_published(pod, place)


@WAYS
def test_a_place_of_a_held_mount_is_not_left_over_by_a_killed_process_1(own, place, inside, uid):
    """The mount went with its namespace; the directory it was set aside to did not."""
    pod = own(uid).create()
    shell = inside(pod, f"cd {place.secrets}; echo there; read x")
    pod.ok("lock")
    assert place.left_in_ram() == [".busy-0"]
    pod.signal(signal.SIGKILL)
    pod.wait()
    shell.ends()
    own(uid)
    assert place.left_in_ram() == []


# ---- the capability ----


@WAYS
def test_nobody_process_1_executes_has_it(own, uid):
    """Root's children lose it from the bounding set as well, or their own exec would bring it back. The
    owner's can't (that takes SETPCAP), but a program without file capabilities gets none from there."""
    pod = own(uid).create()
    sets = ("CapInh", "CapPrm", "CapEff", "CapAmb") + (("CapBnd",) if uid == 0 else ())
    seen = {}

    def look():
        for child in children(pod.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError):
                words = arguments(child)  # first: from its exec on, what follows is what exec left
                if not words[0].endswith(b"tazpod-init"):
                    seen.setdefault(words[-2], []).append(capabilities(child))

    def all_kinds():
        pod.write("key", os.urandom(1 << 20))
        for args in (["lock"], ["unlock", "--passphrase-fd", "0"]):
            words, keywords = pod.command(*args)
            with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **keywords) as client:
                client.stdin.write(PASSPHRASE)
                client.stdin.close()
                while client.poll() is None:
                    look()
        return {b"sleep", b"config", b"pack", b"seal", b"open", b"unpack"} <= set(seen)

    until(all_kinds, "one of each kind, after its exec")
    for kind, found in seen.items():
        for each in found:
            assert not any(each[name] & ADMIN for name in sets), (kind, each)


def test_a_main_command_of_roots_can_not_mount(own, place):
    pod = own(0, "sh", "-c", f"mount -t tmpfs mine {place.work}; echo $?; exec sleep infinity")
    until(lambda: pod.out().strip(), "an answer")
    assert pod.out().strip() != "0"
    assert str(place.work) not in [mount[0] for mount in mounts(pod.pid).values()]


@WAYS
def test_at_rest_it_is_not_in_force(own, make_place, uid):
    place = make_place(work_size="1m")
    pod = own(uid, place=place)

    def at_rest(when):
        found = capabilities(pod.pid)
        assert found["CapPrm"] & ADMIN, f"{when}: it was given"
        assert not found["CapEff"] & ADMIN, when
        assert not (found["CapInh"] | found["CapAmb"]) & ADMIN, when
        if uid:
            assert found["CapEff"] == 0, when

    at_rest("at the start")
    pod.create()
    at_rest("with an open vault")
    pod.write("large", os.urandom(2 << 20))
    assert pod.tazpod("lock").returncode == 74
    at_rest("after a lock that failed")
    (pod.secrets / "large").unlink()
    pod.ok("lock")
    at_rest("while locked")
    assert pod.tazpod("unlock", passphrase=b"another").returncode == 77
    at_rest("after a wrong passphrase")


def test_it_is_not_in_force_where_it_is_not_needed(own):
    pod = own(0, options=("--backend", "given"))
    assert not capabilities(pod.pid)["CapEff"] & ADMIN


class Strace:
    """Of process 1 alone, from now on."""

    def __init__(self, pod, place, *options):
        self.output = place.top / "strace"
        self.process = subprocess.Popen(["strace", "-p", str(pod.pid), "-o", self.output, *options],
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert "attached" in line, line

    def calls(self):
        """Its lines, when it has let go."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(DEADLINE_S)
            self.process.stderr.close()
        return self.output.read_text().splitlines()


@pytest.fixture
def strace():
    made = []

    def make(*args):
        made.append(Strace(*args))
        return made[-1]

    yield make
    for each in made:
        each.calls()


@WAYS
def test_it_is_in_force_around_mount_calls_and_no_others(own, place, inside, strace, uid):
    pod = own(uid)
    trace = strace(pod, place)
    pod.create()
    pod.write("key", b"a secret")
    pod.ok("save")
    pod.ok("lock")
    pod.unlock()
    shell = inside(pod, f"cd {place.secrets}; echo there; read x")
    pod.ok("lock")  # with a mount to be set aside
    pod.unlock()
    shell.ends()
    pod.ok("lock")
    raised, inside_calls, others = False, set(), 0
    for line in trace.calls():
        name = line.split("(", 1)[0]
        if name == "capset":
            raised = "CAP_SYS_ADMIN" in re.search(r"effective=([^,}]*)", line).group(1)
        elif raised:
            inside_calls.add(name)
        else:
            others += name != "capget"
    assert {"fsopen", "fsmount", "move_mount", "umount2"} <= inside_calls, inside_calls
    assert inside_calls <= {"fsopen", "fsconfig", "fsmount", "move_mount", "open_tree", "mount", "umount2", "close",
                            "capget"}, inside_calls
    assert others > 100, "the trace has the rest of its life too"
    assert not raised


@pytest.mark.parametrize("configured", [True, False], ids=["with-a-vault", "plain"])
def test_where_it_is_not_process_1_an_ordinary_user_gives_both_up_for_good(start, place, configured):
    """Anybody might have started it."""
    pod = start("sleep", "infinity", place=place if configured else None, beside=True, may_mount=True).ready()
    found = capabilities(pod.pid)
    assert found["CapBnd"] & ADMIN, "its file would have brought it"
    assert found["CapPrm"] == found["CapEff"] == 0
    if configured:
        assert pod.status()["ram"].startswith("given: ")
        pod.create()


def test_a_tazpod_init_that_the_main_command_is_gives_it_up_too(own, make_place):
    """The file's capabilities come again with every exec of it."""
    second = make_place()
    pod = own(OWNER, str(programs() / "tazpod-init"), "--vault", str(second.vault), "--run-dir", str(second.run), "--",
              "sleep", "infinity")
    until(lambda: second.socket.exists(), "a second tazpod-init")
    (inner,) = [child for child in children(pod.pid) if arguments(child)[0].endswith(b"tazpod-init")]
    assert status_field(inner, "NSpid").split()[-1] != "1"
    assert capabilities(inner)["CapPrm"] == 0
    assert f"run-dir={second.run} state=locked ram=given" in pod.log()


def test_root_that_is_not_process_1_keeps_what_it_has(start, place):
    pod = start("sleep", "infinity", place=place, uid=0, beside=True, may_mount=True).ready().create()
    assert pod.status()["ram"] == "own"
    assert_published(pod, place)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert ours(pod.host, place) == {}
    assert place.left_in_ram() == []


# ---- which it is, and why ----


@WAYS
def test_without_the_capability_it_is_given_and_status_and_log_say_why(start, place, uid):
    pod = start("sleep", "infinity", place=place, uid=uid).ready().create()
    assert pod.status()["ram"].startswith("given: ") and "--cap-add SYS_ADMIN" in pod.status()["ram"]
    assert re.search(r' ram=given why="[^"]*--cap-add SYS_ADMIN', pod.log()), pod.log()
    assert mount_id(pod.secrets) == mount_id(pod.at(place.run))


def test_under_no_new_privileges_an_ordinary_user_does_not_get_it_and_is_told_so(own, place):
    """Its file's capability is not granted then, unless the engine does it itself."""
    pod = own(OWNER, before_exec=lambda: libc("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)).create()
    assert pod.status()["ram"].startswith("given: no-new-privileges keeps SYS_ADMIN"), pod.status()
    assert "cap-add" not in pod.status()["ram"], "it was added"


def test_a_file_without_the_capability_is_named_as_what_is_missing(own, place):
    """As a COPY of the classic builder leaves it."""
    xattr = "security.capability"
    kept = os.getxattr(programs() / "tazpod-init", xattr)
    os.removexattr(programs() / "tazpod-init", xattr)
    try:
        pod = own(OWNER)
    finally:
        os.setxattr(programs() / "tazpod-init", xattr, kept)
    assert "setcap cap_sys_admin,cap_sys_chroot=p" in pod.status()["ram"], pod.status()


ASKED = pytest.mark.parametrize("asked", [{"options": ("--backend", "{}")}, {"env": {"TAZPOD_BACKEND": "{}"}}],
                                ids=["option", "variable"])


def asking(asked, backend):
    if "env" in asked:
        return {"env": {"TAZPOD_BACKEND": backend}}
    return {"options": ("--backend", backend)}


@WAYS
@ASKED
def test_given_is_given_whatever_it_might(own, place, uid, asked):
    pod = own(uid, **asking(asked, "given")).create()
    assert pod.status()["ram"] == "given"
    assert mount_id(pod.secrets) == mount_id(pod.at(place.run))
    assert ours(pod.pid, place) == {}
    place.write("key", b"a secret")
    pod.ok("lock")
    assert_nothing_is_there(pod, place)


@WAYS
@ASKED
def test_own_that_can_not_be_had_opens_nothing_and_the_pod_runs_on(start, place, uid, asked):
    pod = start("sleep", "infinity", place=place, uid=uid, **asking(asked, "own")).ready()
    for words in (["unlock"], ["unlock", "--create", *CHEAP]):
        done = pod.tazpod(*words, passphrase=PASSPHRASE)
        assert done.returncode == 69 and b"[no-mount]" in done.stderr and b"SYS_ADMIN" in done.stderr, done.stderr
    status = pod.status()
    assert status["state"] == "absent" and status["problem"].startswith("no-mount: ")
    assert "tazpod-init: refuse error=no-mount " in pod.log()
    assert not place.vault.exists() and place.left_in_ram() == []
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


def test_an_option_wins_over_the_variable_and_another_word_is_a_usage_error(own, start, place):
    pod = own(OWNER, options=("--backend", "own"), env={"TAZPOD_BACKEND": "given"})
    assert pod.status()["ram"] == "own"
    for how in ({"options": ("--backend", "both")}, {"env": {"TAZPOD_BACKEND": "both"}}):
        assert start(place=place, **how).wait() == 64


@WAYS
def test_own_needs_no_ram_beneath_it(own, place, uid):
    on_disk(place)
    pod = own(uid).create()
    assert pod.status()["ram"] == "own"
    pod.write("key", b"a canary that no disk may see")
    assert_published(pod, place)
    assert os.listdir(place.secrets) == [], "nothing of it in the directory on disk"
    pod.ok("save")
    pod.ok("lock")
    assert_nothing_is_there(pod, place)
    pod.unlock()
    assert (pod.secrets / "key").read_bytes() == b"a canary that no disk may see"
    pod.signal(signal.SIGTERM)
    pod.wait()
    assert place.left_in_ram() == []


@WAYS
def test_given_on_a_disk_is_refused_also_with_the_capability(own, start, place, uid):
    on_disk(place)
    pod = own(uid, options=("--backend", "given"))
    done = pod.tazpod("unlock", "--create", *CHEAP, passphrase=PASSPHRASE)
    assert done.returncode == 69 and b"[not-ram]" in done.stderr, done.stderr
    assert pod.status()["state"] == "absent"
    assert place.left_in_ram() == [] and not place.vault.exists()


def test_a_directory_that_is_refused_is_left_as_it_was(start, place):
    """`--run-dir /etc` by mistake, and root: a refusal must not have taken it over first."""
    umount(place.run)
    place.run.chmod(0o755)
    pod = start("sleep", "infinity", place=place, uid=0).ready()
    assert pod.tazpod("unlock", passphrase=PASSPHRASE).returncode == 69
    assert "error=not-ram" in pod.log()
    info = place.run.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (0, 0, 0o755)


@pytest.mark.parametrize("seen_as", ["owner", "root"])
def test_in_a_user_namespace_of_an_ordinary_user_it_is_mounted_without_noswap(start, place, seen_as):
    """The kernel keeps noswap to those who own the machine's memory."""
    pod = start("sleep", "infinity", place=place, user_namespace=seen_as, may_mount=True).ready()
    assert pod.status(inside=False)["ram"] == "own"
    pod.ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside=False)
    _, options, kind, super_options = mounts(pod.pid)[mount_id(pod.secrets)]
    assert kind == "tmpfs" and {"nosuid", "nodev"} <= set(options)
    assert "noswap" not in super_options
    assert pod.status(inside=False)["swap"] != "noswap"
    # By the owner: in that namespace the test's root is nobody.
    folder = os.open(pod.secrets, os.O_RDONLY)
    os.setegid(OWNER)
    os.seteuid(OWNER)
    try:
        os.close(os.open("key", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.close(folder)
    pod.ok("lock", inside=False)
    assert_nothing_is_there(pod, place)
    pod.ok("unlock", passphrase=PASSPHRASE, inside=False)
    assert os.listdir(pod.secrets) == ["key"]


def test_a_run_directory_whose_mounts_are_shared_can_be_locked_as_well(own, place):
    """`-v ...:shared`, or a host without a container. A mount can't be moved out of a shared one, so it
    is not `own`, or made private: whatever it is, a vault that can be opened can be locked."""
    mount(None, place.run, None, 1 << 20)
    pod = own(OWNER).create()
    pod.write("key", b"a secret")
    pod.ok("lock")
    assert pod.status()["state"] == "locked"
    assert_nothing_is_there(pod, place)
    assert not [point for point, *_ in mounts(os.getpid()).values() if point.startswith(f"{place.run}/")]


# ---- a process 1 that was killed, in a mount namespace that lives on ----


KILLED = pytest.mark.parametrize("uid, beside", [(0, False), (OWNER, False), (0, True)],
                                 ids=["root", "owner", "subreaper"])


@pytest.fixture
def outlive(own, start):
    """Starts a tazpod-init, and once more in the same mount namespace after a KILL; a neighbour holds
    the namespace."""
    kept = []

    def make(uid, beside, story):
        pod = own(uid, beside=beside)
        kept.append(os.open(f"/proc/{pod.pid}/ns/mnt", os.O_RDONLY))
        what = story(pod)
        if is_alive(pod.pid):
            pod.signal(signal.SIGKILL)
        pod.wait()
        again = own(uid, beside=beside, mounts=kept[-1])
        return again, what

    yield make
    for fd in kept:
        os.close(fd)


@KILLED
def test_the_mount_of_a_killed_process_1_is_put_aside_closed_and_whole(outlive, place, uid, beside):
    again, content = outlive(uid, beside, lambda pod: fill(pod.create()))
    assert list(ours(again.pid, place)) == [".stale-0"], "moved, not copied"
    aside = again.at(place.run / ".stale-0")
    assert aside.stat().st_mode & 0o7777 == 0
    assert tree(aside) == content
    assert not again.secrets.exists()
    assert "tazpod-init: stale found=secrets kept=.stale-0" in again.log()
    assert " stale=1" in again.log()
    status = again.status()
    assert status["state"] == "locked" and status["stale"].split()[0] == "1"


@KILLED
def test_it_is_neither_served_nor_saved_over_nor_wiped(outlive, place, uid, beside):
    def story(pod):
        pod.create()
        pod.write("saved", b"on disk")
        pod.ok("save")
        return fill(pod)

    again, content = outlive(uid, beside, story)
    done = again.tazpod("unlock", passphrase=PASSPHRASE)
    assert done.returncode == 0 and ".stale-" in done.stderr.decode(), done.stderr
    assert {path.name for path in again.secrets.iterdir()} == {"saved"}
    assert set(ours(again.pid, place)) == {"secrets", ".stale-0"}
    again.ok("lock")
    again.unlock()
    aside = again.at(place.run / ".stale-0")
    assert tree(aside) == content
    keeper = os.open(aside, os.O_PATH)
    try:
        again.signal(signal.SIGTERM)
        assert again.wait() == 128 + signal.SIGTERM
        assert tree(pathlib.Path(f"/proc/self/fd/{keeper}")) == content
    finally:
        os.close(keeper)


@KILLED
def test_the_mount_of_a_lock_that_was_killed_is_put_aside_too(outlive, place, uid, beside):
    def story(pod):
        pod.create()
        pod.write("key", os.urandom(24 << 20))
        content = tree(pod.secrets)
        words, keywords = pod.command("lock", inside=False)
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, **keywords):
            packer = pod.stop_worker("pack")
            assert list(ours(pod.pid, place)) == [".locking"]
            os.kill(pod.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(packer, signal.SIGKILL)
        return content

    again, content = outlive(uid, beside, story)
    assert list(ours(again.pid, place)) == [".stale-0"]
    assert tree(again.at(place.run / ".stale-0")) == content
    assert "tazpod-init: stale found=.locking kept=.stale-0" in again.log()


# ---- somebody in its way ----


BACKENDS = pytest.mark.parametrize("backend", ["own", "given"])


@WAYS
@BACKENDS
def test_what_somebody_put_in_its_place_meanwhile_is_kept_and_not_opened_over(own, place, uid, backend):
    pod = own(uid, options=("--backend", backend)).create()
    pod.ok("lock")
    place.secrets.mkdir()
    (place.secrets / "note").write_bytes(b"mine")
    for path in (place.secrets, place.secrets / "note"):
        os.chown(path, OWNER, OWNER)
    pod.unlock()
    assert (place.run / ".stale-0" / "note").read_bytes() == b"mine"
    assert os.listdir(pod.secrets) == []


@WAYS
@BACKENDS
def test_what_comes_into_its_place_during_the_unlock_makes_it_fail_and_is_kept(own, place, uid, backend):
    pod = own(uid, options=("--backend", backend)).create()
    pod.write("key", b"a secret")
    pod.ok("lock")
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(UNLOCK), [reader])
        os.close(reader)
        until(lambda: "unpack" in pod.workers(), "an unlock under way")
        place.secrets.mkdir()
        (place.secrets / "note").write_bytes(b"mine")
        os.write(writer, PASSPHRASE)
        os.close(writer)
        answer = client.receive()
    assert (answer["code"], answer["word"], answer["state"]) == (74, "io", "locked")
    assert (place.secrets / "note").read_bytes() == b"mine"
    assert place.left_in_ram() == ["secrets"]
    assert ours(pod.pid, place) == {}
    pod.unlock()
    assert (pod.secrets / "key").read_bytes() == b"a secret"


@WAYS
@pytest.mark.parametrize("what, name", [("unlock", "secrets"), ("lock", ".locking")])
def test_a_link_that_takes_the_place_of_the_mount_point_leads_it_nowhere(own, place, strace, uid, what, name):
    """The run directory is the owner's, so he can swap what process 1 has just made there. A mount that
    followed his link would lay his files over any directory of the pod: /etc, say."""
    victim = place.top / "victim"
    victim.mkdir()
    (victim / "passwd").write_bytes(b"the pod's")
    pod = own(uid).create()
    pod.write("passwd", b"the owner's")
    if what == "unlock":
        pod.ok("lock")
    trace = strace(pod, place, "-e", "trace=mkdir,mkdirat", "-e", "inject=mkdir,mkdirat:delay_exit=300000")
    words, keywords = pod.command(what, *(["--passphrase-fd", "0"] if what == "unlock" else []))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **keywords) as client:
        client.stdin.write(PASSPHRASE)
        client.stdin.close()
        until(lambda: os.path.isdir(place.run / name), "the mount point")
        os.rmdir(place.run / name)
        os.symlink(victim, place.run / name)
        client.wait(DEADLINE_S)
    assert any(name in line and "DELAYED" in line for line in trace.calls()), "it was swapped in time"
    assert pod.at(victim / "passwd").read_bytes() == b"the pod's"
    assert not any(point.startswith(str(victim)) for point, *_ in mounts(pod.pid).values())
    (place.run / name).unlink(missing_ok=True)
    assert pod.status()["state"] in ("locked", "open")
    if what == "lock":
        assert (pod.secrets / "passwd").read_bytes() == b"the owner's", "nothing is lost"


@WAYS
@pytest.mark.parametrize("what", ["unlock", "lock", "stop"])
def test_a_link_in_the_place_of_the_run_directory_leads_it_nowhere(own, place, uid, what):
    """Its parent may be the owner's. What process 1 mounts, moves and unmounts is in the directory that it
    opened at start, wherever that is now and whatever has taken its name."""
    victim = place.top / "victim"
    for name in ("secrets", ".locking"):
        (victim / name).mkdir(parents=True)
        (victim / name / "passwd").write_bytes(b"the pod's")
    # The run directory itself can be moved: it is a folder on the disk, and no mount point.
    on_disk(place)
    pod = own(uid)
    pod.create()
    pod.write("key", b"a secret")
    if what == "unlock":
        pod.ok("lock")
    moved = place.top / "moved"
    place.run.rename(moved)
    place.run.symlink_to(victim)
    if what == "stop":
        pod.signal(signal.SIGTERM)
        assert pod.wait() == 128 + signal.SIGTERM
    else:
        reader, writer = os.pipe()
        os.write(writer, PASSPHRASE)
        os.close(writer)
        with Client(moved / "control.sock") as client:
            client.send(request(UNLOCK if what == "unlock" else LOCK), [reader] if what == "unlock" else [])
            os.close(reader)
            answer = client.receive()
        assert answer["code"] == 0, answer
        assert not any(point.startswith(str(victim)) for point, *_ in mounts(pod.pid).values())
        assert [point for point, *_ in mounts(pod.pid).values() if point.startswith(str(place.top))] == \
            ([str(moved / "secrets")] if what == "unlock" else [])
    for name in ("secrets", ".locking"):
        assert (victim / name / "passwd").read_bytes() == b"the pod's"


# ---- while it is locked nothing is written there by accident ----


def asks_for_trouble(home):
    """Commands that take ~/secrets for a folder, one at a time."""
    link = f"{home}/secrets"
    return [
        f"cp {home}/file {link}", f"cp {home}/file {link}/", f"cp {home}/file {link}/file", f"cp -r {home}/tree {link}",
        f"cp -r {home}/tree {link}/", f"cp -r {home}/tree {link}/tree",
        f"mkdir -p {link}", f"mkdir -p {link}/", f"mkdir -p {link}/folder/folder", f"mkdir {link}/",
        f"echo a secret > {link}", f"echo a secret > {link}/file", f"echo a secret >> {link}/file",
        f"install -D {home}/file {link}/folder/file", f"touch {link}/file", f"tar -C {link} -xf {home}/tar",
        f"echo a secret | tee {link}/file", f"ln {home}/file {link}/file", f"mv {home}/file {link}/",
    ]


@WAYS
@BACKENDS
@pytest.mark.parametrize("writer", [0, OWNER], ids=["by-root", "by-owner"])
def test_while_locked_nothing_is_written_through_the_link_in_the_home(own, place, uid, backend, writer):
    home = place.work / "home"
    (home / "tree").mkdir(parents=True)
    (home / "tree" / "file").write_bytes(b"a secret")
    (home / "file").write_bytes(b"a secret")
    subprocess.run(["tar", "-C", home / "tree", "-cf", home / "tar", "file"], check=True)
    (home / "secrets").symlink_to(f"{place.secrets}/")  # as in the image
    for path in [home, *home.rglob("*")]:
        os.chown(path, OWNER, OWNER, follow_symlinks=False)
    pod = own(uid, options=("--backend", backend))

    def run(command):
        words = ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(writer),
                 "--regid", str(writer), "--clear-groups", "sh", "-c", command]
        return subprocess.run(words, capture_output=True, timeout=DEADLINE_S)

    def nothing_happens(when):
        before = tree(home)
        for command in asks_for_trouble(home):
            done = run(command)
            assert done.returncode != 0, f"{when}: {command}"
            assert_nothing_is_there(pod, place)
            assert tree(home) == before, f"{when}: {command}"

    nothing_happens("before it was ever open")
    pod.create()
    assert run(f"cp {home}/file {home}/secrets/ && mkdir -p {home}/secrets/folder").returncode == 0
    assert {path.name for path in pod.secrets.iterdir()} == {"file", "folder"}
    os.chown(pod.secrets / "file", OWNER, OWNER)
    os.chown(pod.secrets / "folder", OWNER, OWNER)
    pod.ok("lock")
    nothing_happens("after a lock")
