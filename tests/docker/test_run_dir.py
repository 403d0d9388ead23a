"""What the run command brings as /run/tazpod: taken, repaired, or refused with the line to use."""

import pytest

from pods import CHEAP, PASSPHRASE, RUN_DIR, SECRETS, UID, docker, tmpfs

RUN_LINE = "--tmpfs /run/tazpod:size=64m,mode=0700,uid=1000,gid=1000"


def on(volume):
    return ("-v", f"{volume}:{RUN_DIR}:nocopy")


def assert_usable_as_an_init(pod, workspace):
    """No vault, and all the same a good PID 1."""
    assert pod.sh(f"test -e {SECRETS}").code != 0
    assert not (workspace / ".tazpod/vault.tpv").exists()
    assert pod.sh("exit 3").code == 3
    assert pod.stop()[0] == 0


def assert_refused_as_not_ram(pod, workspace):
    refused = pod.create()
    assert refused.code == 69, refused
    assert "[not-ram]" in refused.err and RUN_LINE in refused.err, refused
    status = pod.status()
    assert status["state"] == "absent"
    assert "not-ram" in status["problem"] and RUN_LINE in status["problem"], status
    assert_usable_as_an_init(pod, workspace)


def test_a_folder_on_disk_is_refused_with_the_run_line_to_use(new_pod, workspace):
    assert_refused_as_not_ram(new_pod(workspace, ram=()), workspace)


def test_a_volume_on_disk_is_refused_too(new_pod, workspace):
    assert_refused_as_not_ram(new_pod(workspace, ram=("-v", RUN_DIR)), workspace)


def assert_refused_as_somebody_elses(pod, workspace):
    # PID 1 cannot put its socket there, so the log says it, and the command what it can know.
    assert "bad-run-dir" in pod.logs() and RUN_LINE in pod.logs()
    refused = pod.create()
    assert refused.code == 69 and RUN_LINE in refused.err, refused
    assert_usable_as_an_init(pod, workspace)


def test_a_tmpfs_of_another_user_is_refused_with_the_run_line_to_use(new_pod, workspace):
    assert_refused_as_somebody_elses(new_pod(workspace, ram=tmpfs(uid=1001)), workspace)


def test_a_tmpfs_of_root_is_refused_with_the_run_line_to_use(new_pod, workspace):
    # What a run command that says no more than --tmpfs /run/tazpod brings.
    assert_refused_as_somebody_elses(new_pod(workspace, ram=("--tmpfs", RUN_DIR)), workspace)


def test_a_tmpfs_of_root_that_others_may_read_is_refused_too(new_pod, new_volume, workspace):
    pod = new_pod(workspace, ram=on(new_volume("size=64m,mode=0755")))
    assert "bad-run-dir" in pod.logs() and RUN_LINE in pod.logs()
    assert pod.create().code == 69
    assert_usable_as_an_init(pod, workspace)


def test_a_tmpfs_of_root_that_all_may_write_is_taken_and_the_secrets_in_it_are_closed(new_pod, new_volume, workspace):
    # What Kubernetes mounts for an emptyDir in memory.
    pod = new_pod(workspace, ram=on(new_volume("size=64m,mode=1777")))
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1", mode="0644")
    assert pod.exec("stat", "-c", "%a %u", SECRETS).ok().out.split() == ["700", str(UID)]
    assert pod.exec("cat", f"{SECRETS}/one", options=("--user", "1001")).code != 0
    assert pod.stop()[0] == 0
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/one") == b"1"


@pytest.mark.parametrize("mode", ["0755", "0777", "1777", "0500"])
def test_another_mode_is_repaired_where_the_folder_is_ours(new_pod, new_volume, workspace, mode):
    # A volume, since an engine gives --tmpfs the mode of the image's folder.
    volume = new_volume(f"size=64m,mode={mode},uid={UID},gid={UID}")
    assert docker("exec", volume, "/bin/stat", "-c", "%a", "/held").ok().out.strip() == mode.lstrip("0")
    pod = new_pod(workspace, ram=on(volume))
    assert pod.exec("stat", "-c", "%a %u", RUN_DIR).ok().out.split() == ["700", str(UID)]
    pod.create().ok()


def test_the_mode_that_an_engine_forgets_on_restart_is_repaired(new_pod, workspace):
    # 0755 on the second start of a folder that the image does not have.
    place = "/run/elsewhere"
    pod = new_pod(workspace, ram=("--tmpfs", f"{place}:size=64m,mode=0700,uid={UID},gid={UID}"),
                  options=("-e", f"TAZPOD_RUN_DIR={place}"))
    for _ in range(3):
        assert pod.exec("stat", "-c", "%a %u", place).ok().out.split() == ["700", str(UID)]
        assert pod.stop()[0] == 0
        pod.start()
    pod.create().ok()
    assert pod.status()["secrets"] == f"{place}/secrets"


def test_the_folder_is_0700_again_after_each_restart(new_pod, workspace):
    pod = new_pod(workspace)
    for _ in range(2):
        assert pod.exec("stat", "-c", "%a %u %g", RUN_DIR).ok().out.split() == ["700", str(UID), str(UID)]
        assert pod.stop()[0] == 0
        pod.start()
    pod.create().ok()


def test_a_workspace_that_the_user_cannot_write_makes_no_vault_and_says_so(new_pod, workspace):
    workspace.chmod(0o555)
    pod = new_pod(workspace)
    refused = pod.create()
    assert refused.code == 73, refused
    assert "[cant-create]" in refused.err, refused
    assert pod.state() == "locked"
    workspace.chmod(0o755)
    pod.create().ok()


def test_a_vault_elsewhere_is_named_by_the_environment_or_an_option(new_pod, workspace):
    pod = new_pod(workspace, options=("-e", "TAZPOD_VAULT=/workspace/other.tpv"))
    pod.create().ok()
    assert pod.status()["vault"] == "/workspace/other.tpv"
    assert (workspace / "other.tpv").exists()
    assert not (workspace / ".tazpod").exists()


def test_without_a_vault_it_is_simply_an_init(new_pod, workspace):
    pod = new_pod(workspace, options=("-e", "TAZPOD_VAULT=none"), run=False)
    pod.run(quiet=True)
    refused = pod.unlock("--create", *CHEAP, passphrase=PASSPHRASE)
    assert refused.code == 69, refused
    assert not (workspace / ".tazpod").exists()
    assert pod.stop()[0] == 0
