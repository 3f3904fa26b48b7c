"""SQLite on the file system of the current directory, in every journal mode: two processes move money between accounts
and one looks on; the writers are killed at any moment. No money may be lost or made, and the file must be whole.

    database.py ROUNDS
"""
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time

ACCOUNTS, TOTAL = 500, 500 * 100
MODES = ["delete", "truncate", "persist", "wal"]


def connect(name):
    base = sqlite3.connect(name, timeout=60, isolation_level=None)
    base.execute("pragma synchronous = full")
    base.execute("pragma mmap_size = 1048576")
    # A small cache, so that a transaction spills into the file before it is committed.
    base.execute("pragma cache_size = 5")
    return base


def write(name, seed, moved):
    chance, base = random.Random(seed), connect(name)
    while True:
        base.execute("begin immediate")
        for _ in range(20):
            giver, taker, sum_ = chance.randrange(ACCOUNTS), chance.randrange(ACCOUNTS), chance.randrange(50)
            base.execute("update account set money = money - ? where id = ?", (sum_, giver))
            base.execute("update account set money = money + ?, note = ? where id = ?",
                         (sum_, chance.randbytes(chance.randrange(3000)), taker))
        base.execute("commit")
        with moved.get_lock():
            moved.value += 1


def look(base):
    assert base.execute("select count(*), sum(money) from account").fetchone() == (ACCOUNTS, TOTAL)


def check(name):
    base = connect(name)
    assert base.execute("pragma integrity_check").fetchone() == ("ok",)
    look(base)
    base.close()


def round_(name, seed):
    moved = multiprocessing.Value("L", 0)
    writers = [multiprocessing.Process(target=write, args=(name, seed + number, moved)) for number in range(2)]
    for writer in writers:
        writer.start()
    base = connect(name)
    # Killed when something was done, and at a moment that nobody can foresee.
    least = random.Random(seed).randrange(3, 12)
    deadline = time.monotonic() + 120
    while moved.value < least:
        assert all(writer.is_alive() for writer in writers), "a writer failed"
        assert time.monotonic() < deadline, "the writers don't get on"
        look(base)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    base.close()
    check(name)
    return moved.value


def main():
    rounds, done = int(sys.argv[1]), 0
    for mode in MODES:
        name = f"accounts-{mode}"
        base = connect(name)
        assert base.execute(f"pragma journal_mode = {mode}").fetchone() == (mode,)
        base.execute("create table account (id integer primary key, money integer, note blob)")
        base.execute("begin")
        base.executemany("insert into account values (?, 100, null)", ((id_,) for id_ in range(ACCOUNTS)))
        base.execute("commit")
        base.close()
        done += sum(round_(name, 100 * number) for number in range(rounds))
        base = connect(name)
        base.execute("vacuum")
        base.close()
        check(name)
    print(f"{done} transactions in {len(MODES)} journal modes, {2 * rounds * len(MODES)} writers killed")


main()
