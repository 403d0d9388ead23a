"""Trees as large as people have them, through write, stop, start, unlock: byte for byte."""

import random

import pytest

from pods import tmpfs


def many_small():
    """2 000 files of 16 MB in all."""
    source = random.Random(2000)
    sizes = [source.randrange(0, 16_000) for _ in range(1999)]
    sizes.append(16_000_000 - sum(sizes))
    return {f"{number % 40:02}/{number % 3}/file-{number:04}": (source.randbytes(size), 0o600, 1_500_000_000 + number * 7.5)
            for number, size in enumerate(sizes)}


def a_few_large():
    """60 MB: one file that compresses, and some that do not."""
    source = random.Random(60)
    tree = {"log": (b"2026-01-01 nothing happened\n" * 1_000_000, 0o640, 1_400_000_000)}
    for number in range(4):
        tree[f"blob/{number}"] = (source.randbytes(8_000_000), 0o400, 1_400_000_000.25 + number)
    return tree


@pytest.mark.parametrize("make", [many_small, a_few_large], ids=["2000-files-of-16-mb", "60-mb"])
def test_a_tree_comes_back_byte_for_byte(new_pod, workspace, make):
    tree = make()
    total = sum(len(data) for data, _, _ in tree.values())
    assert total >= (16_000_000 if len(tree) == 2000 else 60_000_000)
    pod = new_pod(workspace, ram=tmpfs(size="128m"))
    pod.create().ok()
    pod.put_tree(tree)
    status, seconds = pod.stop()
    assert status == 0
    pod.start()
    unlock = pod.unlock().ok()
    assert pod.get_tree() == tree
    print(f"{len(tree)} files, {total} bytes: stop {seconds:.2f} s, unlock {unlock.seconds:.2f} s")
    assert pod.status()["files"].split()[0] == str(len(tree))
