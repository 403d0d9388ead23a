"""Who process 1 is, and with which privileges, is the run command's choice: the main job is the same
as any user, as root with the engine's capabilities, with SYS_ADMIN and without; and a root that can't
do it says so."""

import os
import re
import subprocess
import typing

import pytest

from pods import CHEAP, PASSPHRASE, RUN_DIR, SECRETS, UID, VAULT, tmpfs
from test_story import KUBECONFIG, makes_a_vault, unlocks

SYS_ADMIN = 1 << 21
DROP_ALL = ("--cap-drop", "ALL")
# Where AppArmor is in force the engine's profile denies mounts; elsewhere this says nothing.
MAY_MOUNT = ("--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined")
HOME = "/home/tazpod"


class Way(typing.NamedTuple):
    """How a pod is run, and what follows from it. ram None: the engine decides."""
    options: tuple
    ram: str | None = "given"
    owner: int = UID
    place: tuple = tmpfs()
    capabilities: tuple = DROP_ALL
    secrets: str = "~/secrets"  # as the user of the shell writes it; who has no home has no such link


def as_user(uid):
    return Way(("--user", str(uid)), owner=uid, place=tmpfs(uid=uid), secrets=SECRETS)


WAYS = {
    "uid-1000-and-read-only-root": Way(("--user", str(UID), "--read-only")),
    "uid-1001": as_user(1001),
    "uid-65534": as_user(65534),
    "root": Way(("--user", "0"), capabilities=()),
    "root-with-sys-admin": Way(("--user", "0", *MAY_MOUNT), "own", place=(), capabilities=()),
    "sys-admin": Way(MAY_MOUNT, "own", place=()),
    # The socket needs a place that can be written.
    "sys-admin-and-read-only-root": Way((*MAY_MOUNT, "--read-only"), "own"),
    "sys-admin-and-no-new-privileges": Way((*MAY_MOUNT, "--security-opt", "no-new-privileges"), None),
}


def capabilities(text):
    """The sets of a status file of /proc: {name: bits}."""
    found = {name: int(bits, 16) for name, bits in re.findall(r"^(Cap\w+):\s*([0-9a-f]+)$", text, re.M)}
    assert len(found) == 5, text
    return found


def of_process(pod, pid):
    return capabilities(pod.read(f"/proc/{pid}/status").decode())


@pytest.fixture
def workspace_of(workspace):
    """A workspace that belongs to the user of that number."""
    def give(uid):
        if uid != UID and os.geteuid() != 0:
            pytest.fail("only root can give a folder away: run these tests as root")
        if uid != UID:
            os.chown(workspace, uid, uid)
        return workspace

    return give


def assert_all_belongs_to(pod, uid):
    """In the workspace and in the open vault, as the pod sees them."""
    listed = pod.exec("find", "/workspace", SECRETS, "-printf", "%U %p\n").ok().out.splitlines()
    assert f"{uid} {VAULT}" in listed and f"{uid} {SECRETS}/kubeconfig" in listed, "the listing itself saw everything"
    assert [line for line in listed if line.split()[0] != str(uid)] == []


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_typed_into_a_pod_is_back_after_stop_and_start(new_pod, workspace_of, way):
    workspace = workspace_of(way.owner)
    pod = new_pod(workspace, ram=way.place, options=way.options, capabilities=way.capabilities)
    # What process 1 was permitted, and not a name or a number of the engine's, decides.
    may_mount = bool(of_process(pod, 1)["CapPrm"] & SYS_ADMIN)
    assert way.ram is None or may_mount == (way.ram == "own")
    kind = "own" if may_mount else "given"
    ram, _, why = pod.status()["ram"].partition(": ")
    assert ram == kind
    if way.ram is None and kind == "given":
        assert "no-new-privileges" in why, "what stood in the way, since the capability was added"

    first = pod.terminal("tazpod", "shell")
    makes_a_vault(first)
    assert first.command("id -u") == str(way.owner), "the shell is the owner's, whoever asks for it"
    group = first.command("id -G")
    assert group == first.command("id -g"), "it keeps none of root's groups"
    assert "0000000000000000" == first.command("grep CapEff /proc/self/status | cut -f2")
    first.command(f"printf '%s' '{KUBECONFIG}' > {way.secrets}/kubeconfig")
    first.command(f"chmod 640 {way.secrets}/kubeconfig")
    first.type("exit")
    assert first.ends() == 0
    assert PASSPHRASE not in first.text
    if kind == "own":
        assert SECRETS in pod.read("/proc/self/mountinfo").decode()

    assert pod.stop()[0] == 0
    vault = workspace / ".tazpod/vault.tpv"
    assert (vault.stat().st_uid, vault.stat().st_mode & 0o7777) == (way.owner, 0o600)
    assert KUBECONFIG.encode() not in vault.read_bytes()

    pod.start()
    assert pod.state() == "locked"
    assert pod.sh(f"test -e {SECRETS}").code == 1
    second = pod.terminal("tazpod", "shell")
    unlocks(second)
    assert second.command(f"cat {way.secrets}/kubeconfig") == KUBECONFIG
    assert second.command(f"stat -c '%a %u %g' {way.secrets}/kubeconfig") == f"640 {way.owner} {group}"
    assert_all_belongs_to(pod, way.owner)
    second.type("exit 7")
    assert second.ends() == 7, "the shell's status is the command's"
    assert pod.status()["ram"].split(":")[0] == kind
    assert pod.stop()[0] == 0
    assert {path.stat().st_uid for path in (workspace, *workspace.rglob("*"))} == {way.owner}


def test_files_that_root_puts_into_the_vault_are_the_owners_when_they_come_back(new_pod, workspace):
    pod = new_pod(workspace, options=("--user", "0"), capabilities=())
    pod.create().ok()
    pod.write(f"{SECRETS}/kubeconfig", KUBECONFIG.encode(), mode="0644")
    assert pod.exec("stat", "-c", "%u", f"{SECRETS}/kubeconfig").ok().out.split() == ["0"]
    pod.tazpod("lock").ok()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/kubeconfig").decode() == KUBECONFIG
    assert_all_belongs_to(pod, UID)


# --- root that lacks what it takes to serve another user ---


@pytest.mark.parametrize("missing", ["ALL", "SETUID", "SETGID", "KILL", "DAC_OVERRIDE"])
def test_root_without_that_capability_is_a_plain_init_and_unlock_says_how_to_run_it(new_pod, workspace, missing):
    script = 'trap "exit 7" TERM; echo running; while :; do sleep 1 & wait $!; done'
    pod = new_pod(workspace, options=("--user", "0"), capabilities=("--cap-drop", missing),
                  command=("sh", "-c", script), run=False)
    pod.run(quiet=True)
    pod.wait_for_log("running")
    for verb in (("unlock", "--create", *CHEAP), ("unlock",)):
        refused = pod.tazpod(*verb, "--passphrase-fd", "0", stdin=PASSPHRASE.encode())
        assert refused.code == 69, refused
        assert "--user 1000" in refused.err or f"--cap-add {missing}" in refused.err, refused
    assert list(workspace.iterdir()) == []
    assert pod.stop()[0] == 7, "the main command was told, and its status counts"


# --- who gets SYS_ADMIN: nobody ---

# Prints kind and status of each worker it sees, once for each kind, until there is a file "enough". Made
# of builtins, since a worker may live for a few milliseconds; and a file of /proc is read in one piece.
WATCH = r"""
declare -A seen
echo watching
while [ ! -e /workspace/enough ]; do
    for process in /proc/[0-9]*; do
        { read -r -d '' name && read -r -d '' kind; } <$process/cmdline || continue
        [ "$name" = tazpod-worker ] && [ -z "${seen[$kind]}" ] || continue
        status=$(<$process/status)
        case $status in *CapAmb*) ;; *) continue ;; esac
        seen[$kind]=1
        printf 'worker %s\n%s\n' "$kind" "$status"
    done
done 2>/dev/null
"""


@pytest.mark.parametrize("user", [UID, 0], ids=["uid-1000", "root"])
def test_no_program_that_process_1_executes_has_sys_admin(new_pod, workspace, user):
    pod = new_pod(workspace, ram=(), options=("--user", str(user), *MAY_MOUNT),
                  capabilities=() if user == 0 else DROP_ALL,
                  command=("sh", "-c", "cat /proc/self/status; exec sleep infinity"))
    pod.wait_for_log("CapAmb")
    assert of_process(pod, 1)["CapPrm"] & SYS_ADMIN, "the same look finds it where it is"
    assert pod.status()["ram"] == "own"

    watch = subprocess.Popen(["docker", "exec", pod.name, "bash", "-c", WATCH], stdout=subprocess.PIPE, text=True)
    assert watch.stdout.readline() == "watching\n"
    # A derivation and a tree that keep each of the workers busy for a while.
    pod.create("--kdf-memory", "64M", "--kdf-time", "4").ok()
    pod.sh('head -c 40000000 /dev/urandom > "$1"', f"{SECRETS}/big").ok()
    pod.tazpod("lock").ok()
    pod.unlock().ok()
    (workspace / "enough").touch()
    seen = watch.communicate(timeout=30)[0].split("worker ")[1:]

    workers = {text.split()[0]: capabilities(text) for text in seen}
    assert set(workers) >= {"create", "open", "unpack", "pack", "seal"}
    for kind, sets in (("main command", capabilities(pod.logs())), *workers.items()):
        held = {name for name, bits in sets.items() if bits & SYS_ADMIN}
        # An ordinary user may not shrink what is only a bound; from root's main command it is taken away.
        assert held <= ({"CapBnd"} if user or kind in workers else set()), kind
    for kind, sets in workers.items():
        assert not any(sets[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")), kind


# --- while it is locked, nothing is written there by accident ---

BACKENDS = {"given": (tmpfs(), ()), "own": ((), MAY_MOUNT)}

# These are fine while the vault is open. (`mv file ~/secrets` takes the place of the link itself, as mv does.)
POSSIBLE = [f"cp {HOME}/file {HOME}/secrets", f"mkdir -p {HOME}/secrets", f"echo clear > {HOME}/secrets/file",
            f"cp -r {HOME}/tree/. {HOME}/secrets/", f"install -D {HOME}/file {HOME}/secrets/folder/file"]
TROUBLE = [
    *POSSIBLE, f"cp {HOME}/file {HOME}/secrets/", f"cp {HOME}/file {HOME}/secrets/file",
    f"cp -r {HOME}/tree {HOME}/secrets", f"mkdir -p {HOME}/secrets/", f"mkdir -p {HOME}/secrets/folder/folder",
    f"echo clear > {HOME}/secrets", f"echo clear >> {HOME}/secrets/file", f"mv {HOME}/file {HOME}/secrets/",
    f"cp {HOME}/file {SECRETS}/file", f"echo clear > {SECRETS}/file",
]

# Does each of its arguments, and says which went well.
TRY = 'for words; do sh -c "$words" 2>/dev/null && echo "$words"; done; :'
LOOK = f"find {HOME} {RUN_DIR} -printf '%p %y %s %l\\n' | LC_ALL=C sort"


@pytest.mark.parametrize("backend", BACKENDS)
def test_while_locked_nothing_is_written_through_the_link_by_the_owner_or_by_root(new_pod, workspace, backend):
    place, options = BACKENDS[backend]
    # Root of the engine's default capabilities, who may go where the owner may: by docker exec alone.
    pod = new_pod(workspace, ram=place, options=options, capabilities=())
    assert pod.status()["ram"].split(":")[0] == backend
    users = {"owner": ("--user", str(UID)), "root": ("--user", "0")}
    pod.sh(f"mkdir {HOME}/tree && echo clear > {HOME}/tree/file && echo clear > {HOME}/file").ok()

    def nothing_happens(when):
        before = pod.sh(LOOK, options=users["root"]).ok().out
        assert f"{HOME}/secrets l " in before
        for name, user in users.items():
            assert pod.sh(TRY, *TROUBLE, options=user).ok().out == "", f"{when}, by {name}"
        assert pod.sh(LOOK, options=users["root"]).ok().out == before, when

    nothing_happens("before it was ever open")
    pod.create().ok()
    for name, user in users.items():
        assert pod.sh(TRY, *POSSIBLE, options=user).ok().out.splitlines() == POSSIBLE, f"while it is open, by {name}"
        pod.sh(f"rm -r {SECRETS}/folder", options=users["root"]).ok()
    pod.tazpod("lock").ok()
    nothing_happens("after a lock")
    pod.unlock().ok()
    assert pod.read(f"{HOME}/secrets/file").decode() == "clear\n", "nor was anything lost"


# --- who took a copy of the mount with him ---

UNSHARED = {
    "root": (("unshare", "--mount"), "0"),
    "owner": (("unshare", "--user", "--map-current-user", "--mount"), str(UID)),
}


@pytest.mark.parametrize("who", UNSHARED)
def test_a_program_that_unshared_its_mounts_before_the_lock_finds_nothing_after_it(new_pod, workspace, who):
    unshare, user = UNSHARED[who]
    pod = new_pod(workspace, ram=(), options=MAY_MOUNT, capabilities=())
    assert pod.status()["ram"] == "own"
    pod.create().ok()
    pod.write(f"{SECRETS}/kubeconfig", KUBECONFIG.encode())

    apart = pod.terminal(*unshare, "sh", options=("-it", "--user", user, "-e", "PS1=$ "))
    apart.take_prompt()
    # Root's processes can't be looked at, so this one may stand inside; one of the owner's would be waited for.
    apart.command(f"cd {SECRETS}" if who == "root" else "cd /")
    assert apart.command(f"cat {SECRETS}/kubeconfig") == KUBECONFIG
    pod.tazpod("lock").ok()
    assert pod.sh(f"test -e {SECRETS}").code == 1
    if who == "root":
        # Where it stands is a mount that no unmount of ours reaches: still there, and empty.
        assert apart.command("stat -f -c %T .") == "tmpfs"
        assert apart.command("ls -A . | wc -l") == "0"
    assert apart.command(f"find {SECRETS} -mindepth 1 2>/dev/null | wc -l") == "0"
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/kubeconfig").decode() == KUBECONFIG
    assert apart.command(f"find {SECRETS} -type f 2>/dev/null | wc -l") == "0", "nor does it see the next unlock"
