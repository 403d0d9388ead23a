"""The vault's RAM counts to the container's memory limit: a tree that fills it is still saved."""

import json
import os

import pytest

from pods import SECRETS, UID, rounds, tmpfs

LIMIT = ("-m", "64m", "--memory-swap", "64m")


def test_a_default_derivation_that_does_not_fit_is_refused_and_names_the_flag(new_pod, workspace):
    pod = new_pod(workspace, options=LIMIT)
    refused = pod.unlock("--create")
    assert refused.code == 71, refused
    assert "[kdf-memory]" in refused.err and "--kdf-memory" in refused.err, refused
    assert pod.is_running and pod.state() == "locked"
    assert not (workspace / ".tazpod/vault.tpv").exists()
    assert pod.inspect("{{.State.OOMKilled}}") == "false", "refused before it ran"
    pod.unlock("--create", "--kdf-memory", "16M").ok()


def test_a_default_derivation_runs_where_there_is_room_and_is_refused_later_where_not(new_pod, workspace):
    pod = new_pod(workspace)
    pod.unlock("--create").ok()
    assert pod.stop()[0] == 0
    limited = new_pod(workspace, options=LIMIT)
    refused = limited.unlock()
    assert refused.code == 71 and "[kdf-memory]" in refused.err, refused
    assert limited.state() == "locked"
    limited.remove()
    pod.start()
    pod.unlock().ok()


@pytest.fixture
def stream(tmp_path):
    """It comes from outside, so that what arrived can be compared to the last byte."""
    source = tmp_path / "stream"
    source.write_bytes(os.urandom(80_000_000))
    os.chmod(tmp_path, 0o755)
    return source


def assert_fills_up_and_is_saved(new_pod, pod, stream):
    pod.write(f"{SECRETS}/first", b"first")
    filled = pod.sh('exec dd if=/run/stream of="$1" bs=64k', f"{SECRETS}/big")
    assert filled.code != 0, "nothing held the writer back"
    assert pod.is_running, "PID 1 outlives the writer"

    status, seconds = pod.stop()
    print(f"writer: {filled.code}, stop: {status} after {seconds:.2f} s\n{pod.logs()}")
    assert status == 0
    assert seconds < 9

    roomy = new_pod(pod.workspace, ram=tmpfs(size="128m"))
    roomy.unlock().ok()
    assert roomy.read(f"{SECRETS}/first") == b"first"
    big = roomy.read(f"{SECRETS}/big")
    print(f"{len(big)} bytes were in RAM")
    assert len(big) > 30_000_000, "the limit was reached long after this"
    assert big == stream.read_bytes()[:len(big)]


@pytest.mark.parametrize("turn", range(rounds(2)))
def test_a_tmpfs_filled_up_to_the_memory_limit_is_saved_by_stop(new_pod, workspace, stream, turn):
    pod = new_pod(workspace, options=(*LIMIT, "-v", f"{stream}:/run/stream:ro"))
    pod.unlock("--create", "--kdf-memory", "16M").ok()
    assert_fills_up_and_is_saved(new_pod, pod, stream)


def test_a_vault_opens_again_and_again_under_a_limit_and_its_last_save_has_its_reserve(new_pod, workspace):
    pod = new_pod(workspace, options=LIMIT)
    pod.unlock("--create", "--kdf-memory", "16M").ok()
    pod.write(f"{SECRETS}/token", b"secret")
    pod.tazpod("lock").ok()
    free = pod.inspect("{{.HostConfig.Memory}}")
    assert free == str(64 << 20)
    for _ in range(3):
        pod.unlock().ok()
        assert pod.read(f"{SECRETS}/token") == b"secret"
        pod.tazpod("save").ok()
        pod.tazpod("lock").ok()
    pod.unlock().ok()
    # The reserve taken by an unlock is as good as that of a creation: the writer is held back the same.
    filled = pod.sh('exec dd if=/dev/urandom of="$1" bs=64k', f"{SECRETS}/big")
    assert filled.code != 0 and pod.is_running
    assert pod.stop()[0] == 0, pod.logs()


@pytest.mark.parametrize("limit, warned", [("64m", True), ("256m", False)])
def test_ram_that_may_outgrow_the_memory_limit_is_warned_of(new_pod, workspace, limit, warned):
    pod = new_pod(workspace, options=("-m", limit, "--memory-swap", limit))
    assert "warning" not in pod.status(), "nobody has looked yet"
    said = pod.create().ok().err
    assert ("memory limit" in said) == warned, said
    assert pod.status().get("warning", "").startswith("ram-exceeds-memory") == warned
    assert json.loads(pod.tazpod("status", "--json").ok().out)["ram"]["exceeds_memory"] == warned
    assert ("warning=ram-exceeds-memory" in pod.logs()) == warned


def test_of_noswap_ram_as_large_as_the_limit_a_part_is_kept_for_the_last_save(new_pod, new_volume, workspace, stream):
    """Where the rest of the pod may be swapped, a reserve elsewhere would go to the swap device to make
    room for the tree, and then nothing could be given back to the workers of the last save."""
    volume = new_volume(f"size=64m,mode=0700,uid={UID},gid={UID},noswap")
    pod = new_pod(workspace, ram=("-v", f"{volume}:/run/tazpod"), options=(*LIMIT, "-v", f"{stream}:/run/stream:ro"))
    empty = pod.ram_used()
    pod.create("--kdf-memory", "16M", "--kdf-time", "1").ok()
    assert pod.ram_used() - empty >= 16 << 20
    pod.tazpod("lock").ok()
    assert pod.ram_used() == empty, "it goes before the tree does"
    pod.unlock().ok()
    assert pod.ram_used() - empty >= 16 << 20
    assert_fills_up_and_is_saved(new_pod, pod, stream)
