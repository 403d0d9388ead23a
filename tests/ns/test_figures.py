"""What process 1 takes of memory, and a save and an unlock of time (tests/bench/save.py measures).

Memory is the same on a busy machine, so its limit always holds. Times are held to theirs in the long
form alone, TAZPOD_LONG=1, on a machine that does nothing else: 100 rounds, or TAZPOD_ROUNDS.
"""

import os
import sys

import pytest

from nsinit import TOP

sys.path.append(str(TOP / "tests/bench"))
import save  # noqa: E402 - beside the other measurements

LONG = os.environ.get("TAZPOD_LONG") == "1"
ROUNDS = int(os.environ.get("TAZPOD_ROUNDS") or (100 if LONG else 5))


@pytest.fixture
def disk():
    place = save.OnDisk()
    yield place
    place.close()


@pytest.mark.parametrize("may_mount", [False, True], ids=["given", "own"])
def test_process_one_takes_little_memory_locked_and_open(start, disk, may_mount):
    pod = start("sleep", "infinity", place=disk, may_mount=may_mount).ready()
    taken = {"locked": save.rss_kb(pod.pid)}
    vault = save.Vault(pod)
    try:
        taken["open"] = save.rss_kb(pod.pid)
        for _ in range(3):
            vault.save([])
            vault.unlock([])
        taken["open again"] = save.rss_kb(pod.pid)
        assert pod.status()["ram"].split()[0].rstrip(":") == ("own" if may_mount else "given")
        vault.lock()
        taken["locked again"] = save.rss_kb(pod.pid)
    finally:
        vault.close()
    print(taken)
    assert max(taken.values()) <= save.GOAL_RSS_KB, taken
    # That it is not just a number that is always small.
    assert save.rss_kb(os.getpid()) > 10 * save.GOAL_RSS_KB


def test_without_a_vault_it_takes_no_more(start):
    assert 0 < save.rss_kb(start("sleep", "infinity").ready().pid) <= save.GOAL_RSS_KB


def test_a_save_and_an_unlock_cost_little_beyond_the_disk_and_the_derivation(start, disk):
    """Against what the machine itself takes for the same bytes and the same derivation, alternated."""
    figures = save.Figures(start("sleep", "infinity", place=disk).ready(), ROUNDS)
    figures.print()
    if LONG:
        assert figures.kind not in save.IN_RAM, "an fsync must cost what it costs: see TAZPOD_BENCH_DIR"
        for share in (0.5, 0.95):
            assert figures.save.above_ms(share) <= save.GOAL_SAVE_MS, (share, figures.others)
            assert figures.unlock.above_ms(share) <= save.GOAL_UNLOCK_MS, (share, figures.others)
