#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What creating a file through the mount costs, in builds beside each other: to see what a part of evfs costs, by leaving it
out in one of them. Alternating runs, each with a new store on a freshly made ext4 in a loop-mounted file; judged by the CPU
time of the daemon, which says more than the clock where others use the machine. Needs root.

Usage: create.py FILES ROUNDS BIN-DIRECTORY...
"""
import os
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from places import Disk, run


def cpu_s(pid):
    with open(f'/proc/{pid}/stat', encoding='ascii') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def create(top, files):
    """100 files in a directory; the last one is synced, and with it all."""
    for n in range(files):
        directory = f'{top}/{n // 100}'
        if n % 100 == 0:
            os.mkdir(directory)
        fd = os.open(f'{directory}/file{n}', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, b'content of %d\n' % n)
        if n == files - 1:
            os.fsync(fd)
        os.close(fd)


def once(bin_dir, where, files):
    """Seconds of CPU and of the clock."""
    store, mount = where + '/store', where + '/mount'
    os.mkdir(mount)
    run(bin_dir + '/evfsctl', 'init', store, '--name', 'bench')
    with subprocess.Popen([bin_dir + '/evfs', '-f', store, mount], stderr=subprocess.DEVNULL) as daemon:
        end = time.monotonic() + 30
        while not os.path.ismount(mount):
            if time.monotonic() > end or daemon.poll() is not None:
                raise TimeoutError('the daemon does not mount')
            time.sleep(0.01)
        before, begin = cpu_s(daemon.pid), time.monotonic()
        create(mount, files)
        cost = cpu_s(daemon.pid) - before, time.monotonic() - begin
        run('fusermount3', '-u', mount)
    shutil.rmtree(store)
    os.rmdir(mount)
    return cost


def on_fresh_disk(work):
    disk = Disk(4)
    try:
        return work(disk.dir)
    finally:
        disk.close()


def main():
    files, rounds, builds = int(sys.argv[1]), int(sys.argv[2]), [os.path.abspath(name) for name in sys.argv[3:]]
    costs = {build: [] for build in builds}
    for turn in range(rounds):
        for build in builds if turn % 2 == 0 else reversed(builds):
            cost = on_fresh_disk(lambda disk, build=build: once(build, disk, files))
            costs[build].append(cost[0] / files * 1e6)
            print(f'{turn} {build}: {costs[build][-1]:.2f} us of CPU a file, {files / cost[1]:.0f} files a second', flush=True)
    first = None
    for build in builds:
        median, least = statistics.median(costs[build]), min(costs[build])
        first = first or (median, least)
        print(f'{build}: median {median:.2f}, least {least:.2f} us of CPU a file; '
              f'{median / first[0] * 100 - 100:+.1f} %, {least / first[1] * 100 - 100:+.1f} % to the first')


if __name__ == '__main__':
    main()
