"""The vault's RAM counts to the container's memory limit: a tree that fills it is still saved."""

import os

import pytest

from pods import SECRETS, rounds, tmpfs

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


@pytest.mark.parametrize("turn", range(rounds(2)))
def test_a_tmpfs_filled_up_to_the_memory_limit_is_saved_by_stop(new_pod, workspace, tmp_path, turn):
    # The stream comes from outside, so that what arrived can be compared to the last byte.
    source = tmp_path / "stream"
    source.write_bytes(os.urandom(80_000_000))
    os.chmod(tmp_path, 0o755)

    pod = new_pod(workspace, options=(*LIMIT, "-v", f"{source}:/run/stream:ro"))
    pod.unlock("--create", "--kdf-memory", "16M").ok()
    pod.write(f"{SECRETS}/first", b"first")
    filled = pod.sh('exec dd if=/run/stream of="$1" bs=64k', f"{SECRETS}/big")
    assert filled.code != 0, "nothing held the writer back"
    assert pod.is_running, "PID 1 outlives the writer"

    status, seconds = pod.stop()
    print(f"writer: {filled.code}, stop: {status} after {seconds:.2f} s\n{pod.logs()}")
    assert status == 0
    assert seconds < 9

    roomy = new_pod(workspace, ram=tmpfs(size="128m"))
    roomy.unlock().ok()
    assert roomy.read(f"{SECRETS}/first") == b"first"
    big = roomy.read(f"{SECRETS}/big")
    print(f"{len(big)} bytes were in RAM")
    assert len(big) > 30_000_000, "the limit was reached long after this"
    assert big == source.read_bytes()[:len(big)]


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
