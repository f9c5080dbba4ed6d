#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount with very much in it: a million files, a directory of 100,000 entries, a file of 20 GiB.

    million  makes the files (in directories of 100 to 1,000), then mounts anew with cold disk caches: time until the first `ls`
             of the root answers, `find` over all, and what the daemon holds in memory after each
    wide     one directory with 100,000 entries beside the same number in directories of 1,000: making, listing, looking up
    big      a sparse file of 20 GiB: writes far apart, reads of data and holes, stat

On a freshly made ext4 in a loop-mounted file. Needs root. Usage: scale.py BIN-DIRECTORY [ROW...]
SCALE_FILES, SCALE_WIDE, SCALE_GIB: other numbers.
"""
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from places import Disk, Replica, run, use, wait_until

use(sys.argv[1])
ROWS = sys.argv[2:] or ['million', 'wide', 'big']
FILES = int(os.environ.get('SCALE_FILES', '1000000'))
WIDE = int(os.environ.get('SCALE_WIDE', '100000'))
GIB = int(os.environ.get('SCALE_GIB', '20'))
MOUNTS = 5
LOOKUPS = 5000


def say(what, value, target=''):
    print(f'{what:64}{value:>16}{target:>28}', flush=True)


def timed(call):
    before = time.monotonic()
    call()
    return time.monotonic() - before


def write(path, data):
    with open(path, 'wb', buffering=0) as out:
        out.write(data)


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as out:
        out.write('3')


def walk(top):
    """What `find` does: all names and their attributes; the number of files."""
    n = 0
    for directory, _, names in os.walk(top):
        for name in names:
            os.lstat(f'{directory}/{name}')
        n += len(names)
    return n


class Scale:
    def __init__(self):
        self.disk = Disk(24)
        self.replica = None

    def start(self, name):
        self.replica = Replica(self.disk, name)
        return self.replica.mount

    def cpu_s(self):
        with open(f'/proc/{self.replica.pid}/stat', encoding='ascii') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def cost(self, call, count):
        """Seconds, and microseconds of the daemon's processor time for one of count."""
        cpu = self.cpu_s()
        seconds = timed(call)
        return seconds, (self.cpu_s() - cpu) * 1e6 / count

    def again(self):
        """Mounts anew, all caches cold; seconds until the first listing."""
        self.replica.stop()
        drop_caches()
        before = time.monotonic()
        run('evfs', self.replica.store, self.replica.mount)
        run('ls', self.replica.mount)
        seconds = time.monotonic() - before
        self.replica.pid = self.replica.status()['node']['pid']
        return seconds

    def million(self):
        mount = self.start('million')
        rng = random.Random(11)

        def make():
            left, n = FILES, 0
            while left > 0:
                top = f'{mount}/{n // 50}/{n % 50}'
                os.makedirs(top)
                for k in range(min(left, rng.randrange(100, 1001))):
                    write(f'{top}/file{k}.txt', b'%d %d\n' % (n, k))
                    left -= 1
                n += 1
        seconds, cpu = self.cost(make, FILES)
        say(f'{FILES} files made', f'{FILES / seconds:.0f} files/s', f'{cpu:.0f} us CPU each')
        say('daemon, resident, after it', f'{self.replica.rss_mib():.0f} MiB')
        times = sorted(self.again() for _ in range(MOUNTS))
        say(f'start of evfs to the first ls, cold, the median of {MOUNTS}', f'{times[MOUNTS // 2] * 1000:.0f} ms', 'target: 300 ms')
        say('daemon, resident, just mounted', f'{self.replica.rss_mib():.0f} MiB')
        seconds, cpu = self.cost(lambda: run('find', mount, '-size', '+1G'), FILES)
        say('find over all, cold', f'{FILES / seconds:.0f} files/s', f'{cpu:.0f} us CPU each')
        say('daemon, resident, after find', f'{self.replica.rss_mib():.0f} MiB', 'target: 150 MiB')
        seconds, cpu = self.cost(lambda: walk(mount), FILES)
        say('a walk of all, warm', f'{FILES / seconds:.0f} files/s', f'{cpu:.0f} us CPU each')
        self.replica.stop()

    def wide(self):
        mount = self.start('wide')
        small = [f'{mount}/small/{n}' for n in range(WIDE // 1000)]
        places = {'one directory': [f'{mount}/wide/{n}' for n in range(WIDE)],
                  'directories of 1,000': [f'{top}/{n}' for top in small for n in range(1000)]}
        for top in [f'{mount}/wide'] + small:
            os.makedirs(top)
        for where, paths in places.items():
            for part in (paths[:len(paths) // 10], paths[len(paths) // 10:-len(paths) // 10], paths[-len(paths) // 10:]):
                def make(part=part):
                    for path in part:
                        write(path, b'x')
                seconds, cpu = self.cost(make, len(part))
                say(f'{where}: {len(part)} files made', f'{len(part) / seconds:.0f} files/s', f'{cpu:.0f} us CPU each')
        self.again()
        for where, paths in places.items():
            tops = sorted({os.path.dirname(path) for path in paths})
            chosen = random.Random(3).sample(paths, LOOKUPS)
            seconds, cpu = self.cost(lambda: [os.lstat(path) for path in chosen], LOOKUPS)
            say(f'{where}: {LOOKUPS} names looked up, cold', f'{LOOKUPS / seconds:.0f} names/s', f'{cpu:.0f} us CPU each')
            seconds, cpu = self.cost(lambda: [os.listdir(top) for top in tops], len(paths))
            say(f'{where}: listed, cold', f'{len(paths) / seconds:.0f} names/s', f'{cpu:.1f} us CPU each')
            seconds, cpu = min(self.cost(lambda: [os.listdir(top) for top in tops], len(paths)) for _ in range(3))
            say(f'{where}: listed, warm', f'{len(paths) / seconds:.0f} names/s', f'{cpu:.1f} us CPU each')
        for where, paths in places.items():
            chosen = random.Random(4).sample(paths, LOOKUPS)
            seconds, cpu = self.cost(lambda: [os.unlink(path) for path in chosen], LOOKUPS)
            say(f'{where}: {LOOKUPS} files removed', f'{LOOKUPS / seconds:.0f} files/s', f'{cpu:.0f} us CPU each')
        self.replica.stop()

    def big(self):
        mount = self.start('big')
        path, size, piece = mount + '/big', GIB << 30, os.urandom(1 << 20)
        far = [0, size // 4, size // 2, size - len(piece)]

        def make():
            with open(path, 'wb', buffering=0) as out:
                out.truncate(size)
                for offset in far:
                    os.pwrite(out.fileno(), piece, offset)
                os.fsync(out.fileno())

        def overwrite():
            fd = os.open(path, os.O_WRONLY)
            os.pwrite(fd, b'y' * 4096, size // 2 + 8192)
            os.fsync(fd)
            os.close(fd)

        def read(offset, want):
            fd = os.open(path, os.O_RDONLY)
            got = os.pread(fd, len(want), offset)
            os.close(fd)
            if got != want:
                sys.exit(f'scale.py: other bytes at {offset}')
        say(f'{GIB} GiB, 4 MiB of them data: written and synced', f'{timed(make):.3f} s')
        say('4 KiB in its middle overwritten and synced', f'{timed(overwrite):.3f} s')
        say('daemon, resident', f'{self.replica.rss_mib():.0f} MiB')
        say('start of evfs to the first ls, cold', f'{self.again() * 1000:.0f} ms')
        say('stat, cold', f'{timed(lambda: os.stat(path)) * 1000:.1f} ms')
        if os.stat(path).st_size != size:
            sys.exit('scale.py: another size')
        say('1 MiB at its end, cold', f'{timed(lambda: read(far[-1], piece)) * 1000:.1f} ms')
        say('64 MiB of a hole', f'{timed(lambda: read(size // 8, bytes(64 << 20))) * 1000:.0f} ms')
        say('disk taken', run('du', '-sh', self.replica.store).split()[0])
        self.replica.stop()

    def close(self):
        if self.replica and os.path.ismount(self.replica.mount):
            # also where an interrupted row has left a file open
            run('umount', '-l', self.replica.mount)
            wait_until(lambda: not os.path.exists(f'/proc/{self.replica.pid}'))
        self.disk.close()


def main():
    scale = Scale()
    try:
        for row in ROWS:
            getattr(scale, row)()
    finally:
        scale.close()


main()
