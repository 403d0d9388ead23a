"""The RAM is full: what is there can be saved, and what does not fit is refused whole."""

from pods import RUN_DIR, SECRETS, tmpfs


def fill(pod):
    """Writes until the tmpfs takes no more."""
    full = pod.sh('cat /dev/urandom > "$1"', f"{SECRETS}/filler")
    assert full.code != 0 and "No space left" in full.err, full
    return pod.exec("sha256sum", f"{SECRETS}/filler").ok().out.split()[0]


def test_a_full_tmpfs_is_saved_stopped_and_comes_back_in_one_of_the_same_size(new_pod, workspace):
    pod = new_pod(workspace, ram=tmpfs(size="24m"))
    pod.create().ok()
    pod.write(f"{SECRETS}/first", b"first")
    expected = fill(pod)
    pod.tazpod("save").ok()
    pod.sh('rm "$1/first"; cat > "$1/filler-2" < /dev/urandom', SECRETS)
    status, seconds = pod.stop()
    assert status == 0 and seconds < 9

    pod.start()
    pod.unlock().ok()
    assert pod.exec("sha256sum", f"{SECRETS}/filler").ok().out.split()[0] == expected
    assert pod.sh(f"test -e {SECRETS}/first").code == 1, "the last save was the one of the stop"


def test_a_vault_larger_than_the_tmpfs_is_refused_with_nothing_left(new_pod, workspace):
    large = new_pod(workspace, ram=tmpfs(size="24m"))
    large.create().ok()
    large.sh('cd "$1"; mkdir d; for name in d/a b; do head -c 9000000 /dev/urandom > $name; done', SECRETS).ok()
    expected = large.sh('cd "$1"; sha256sum d/a b', SECRETS).ok().out
    assert large.stop()[0] == 0
    before = (workspace / ".tazpod/vault.tpv").read_bytes()

    small = new_pod(workspace, ram=tmpfs(size="12m"))
    used = small.ram_used()
    refused = small.unlock()
    assert refused.code == 74, refused
    assert "[no-room]" in refused.err, refused
    assert small.state() == "locked"
    assert small.ram_used() == used
    assert small.exec("find", RUN_DIR, "-mindepth", "1", "!", "-name", "control.sock").ok().out == ""
    assert small.stop()[0] == 0
    assert (workspace / ".tazpod/vault.tpv").read_bytes() == before

    again = new_pod(workspace, ram=tmpfs(size="24m"))
    again.unlock().ok()
    assert again.sh('cd "$1"; sha256sum d/a b', SECRETS).ok().out == expected
