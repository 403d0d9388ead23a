"""The disk is full when a save is due: the vault stays open, the error is clear, nothing is lost."""

from pods import SECRETS, UID, in_base

CONTENT = bytes(range(256)) * 16


def fill(pod):
    full = pod.sh("cat /dev/zero > /workspace/filler")
    assert full.code != 0 and "No space left" in full.err, full


def on_volume(volume, script):
    """Looks at the volume with the pod stopped."""
    return in_base(script, mounts=(f"{volume}:/held:nocopy",))


def test_a_save_on_a_full_disk_fails_clearly_and_succeeds_once_there_is_room(new_pod, new_volume):
    volume = new_volume(f"size=2m,mode=0755,uid={UID},gid={UID}")
    pod = new_pod(volume)
    pod.create().ok()
    pod.write(f"{SECRETS}/old", CONTENT)
    pod.tazpod("save").ok()
    old = on_volume(volume, "sha256sum /held/.tazpod/vault.tpv").out

    # More than is free, so that it fails in the middle of writing.
    pod.sh('head -c 300000 /dev/urandom > "$1"', f"{SECRETS}/new").ok()
    expected = pod.exec("sha256sum", f"{SECRETS}/new").ok().out
    fill(pod)
    for verb in ("save", "lock"):
        refused = pod.tazpod(verb)
        assert refused.code == 74, refused
        assert "[disk-full]" in refused.err, refused
        assert pod.state() == "open", f"{verb} that could not save keeps the vault open"
        assert pod.exec("sha256sum", f"{SECRETS}/new").ok().out == expected
        assert pod.sh("ls /workspace/.tazpod/*.tmp-*").code != 0, "half a save is left on a full disk"
    assert "disk-full" in pod.status()["problem"]
    assert on_volume(volume, "sha256sum /held/.tazpod/vault.tpv").out == old

    pod.sh("rm /workspace/filler").ok()
    pod.tazpod("save").ok()
    assert "problem" not in pod.status()
    assert pod.stop()[0] == 0

    pod.start()
    pod.unlock().ok()
    assert pod.exec("sha256sum", f"{SECRETS}/new").ok().out == expected


def test_a_stop_on_a_full_disk_says_so_by_its_status_and_keeps_the_old_vault(new_pod, new_volume):
    volume = new_volume(f"size=2m,mode=0755,uid={UID},gid={UID}")
    pod = new_pod(volume)
    pod.create().ok()
    pod.write(f"{SECRETS}/old", CONTENT)
    pod.tazpod("save").ok()
    pod.sh('head -c 300000 /dev/urandom > "$1"', f"{SECRETS}/new").ok()
    fill(pod)
    status, seconds = pod.stop()
    assert status == 74
    assert seconds < 9
    assert "disk-full" in pod.logs()

    on_volume(volume, "rm /held/filler")
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/old") == CONTENT
    assert pod.sh(f"test -e {SECRETS}/new").code == 1


def test_a_vault_that_cannot_be_created_for_want_of_room_is_not_there(new_pod, new_volume):
    volume = new_volume(f"size=1m,mode=0755,uid={UID},gid={UID}")
    pod = new_pod(volume)
    fill(pod)
    refused = pod.create()
    assert refused.code in (73, 74), refused
    assert "[disk-full]" in refused.err, refused
    assert pod.state() == "locked"
    assert pod.sh("test -e /workspace/.tazpod/vault.tpv").code == 1
    pod.sh("rm /workspace/filler").ok()
    pod.create().ok()
