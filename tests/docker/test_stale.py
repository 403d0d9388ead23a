"""A PID 1 that starts on RAM which still holds clear text keeps it, and never mistakes it for its own."""

from pods import RUN_DIR, SECRETS, UID, docker


def held(volume, script):
    """Root's look at the tmpfs from the container that holds it."""
    return docker("exec", volume, "/bin/sh", "-c", script)


def kill_and_start(pod):
    pod.kill("KILL")
    assert pod.wait() == 137
    pod.start()


def test_what_a_killed_pid_1_left_is_kept_aside_and_the_old_vault_opens(new_pod, new_volume, workspace):
    volume = new_volume(f"size=64m,mode=0700,uid={UID},gid={UID}")
    pod = new_pod(workspace, ram=("-v", f"{volume}:{RUN_DIR}:nocopy"))
    pod.create().ok()
    pod.write(f"{SECRETS}/file", b"saved")
    pod.tazpod("save").ok()
    pod.write(f"{SECRETS}/file", b"never saved")
    pod.write(f"{SECRETS}/other", b"never saved either")
    vault = (workspace / ".tazpod/vault.tpv").read_bytes()

    kill_and_start(pod)
    assert pod.state() == "locked"
    assert pod.sh(f"test -e {SECRETS}").code == 1, "it is served to whoever comes"
    assert pod.status()["stale"].split()[0] == "1"
    assert "stale" in pod.logs()
    assert held(volume, "stat -c '%a %F' /held/.stale-0").ok().out.strip() == "0 directory"
    assert pod.sh(f"cat {RUN_DIR}/.stale-*/file").code != 0, "mode 0 keeps the pod's user out"
    assert (workspace / ".tazpod/vault.tpv").read_bytes() == vault, "nothing was saved over the vault"

    unlocked = pod.unlock().ok()
    assert "stale" in unlocked.err or ".stale-0" in unlocked.err, unlocked
    assert pod.read(f"{SECRETS}/file") == b"saved"
    assert pod.sh(f"test -e {SECRETS}/other").code == 1
    assert pod.status()["stale"].split()[0] == "1"
    assert held(volume, "cat /held/.stale-0/file /held/.stale-0/other").ok().out == "never savednever saved either"

    # A second time: the first stays, and stays what it is; a lock and a stop do not touch them.
    pod.write(f"{SECRETS}/file", b"lost again")
    kill_and_start(pod)
    assert pod.status()["stale"].split()[0] == "2"
    pod.unlock().ok()
    pod.tazpod("lock").ok()
    assert pod.stop()[0] == 0
    assert held(volume, "cat /held/.stale-0/file /held/.stale-1/file").ok().out == "never savedlost again"


def test_a_clean_stop_leaves_nothing_stale(new_pod, new_volume, workspace):
    volume = new_volume(f"size=64m,mode=0700,uid={UID},gid={UID}")
    pod = new_pod(workspace, ram=("-v", f"{volume}:{RUN_DIR}:nocopy"))
    pod.create().ok()
    pod.write(f"{SECRETS}/file", b"saved")
    assert pod.stop()[0] == 0
    assert held(volume, "find /held -mindepth 1 ! -name control.sock").ok().out == "", "clear text after a clean stop"
    pod.start()
    assert "stale" not in pod.status()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/file") == b"saved"


def test_a_killed_pid_1_with_its_vault_locked_leaves_nothing_stale(new_pod, new_volume, workspace):
    volume = new_volume(f"size=64m,mode=0700,uid={UID},gid={UID}")
    pod = new_pod(workspace, ram=("-v", f"{volume}:{RUN_DIR}:nocopy"))
    pod.create().ok()
    pod.tazpod("lock").ok()
    kill_and_start(pod)
    assert "stale" not in pod.status()
    pod.unlock().ok()
