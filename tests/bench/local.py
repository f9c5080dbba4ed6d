#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local side of a mount beside its backing ext4 and libfuse's passthrough_ll (writeback), in one run: ratios.

Every place lies on the same freshly made ext4 in a loop-mounted file (direct I/O): the directory itself, passthrough_ll on it,
a replica alone, and a replica with one connected peer. passthrough_ll is built from the examples of libfuse3-dev where they are.
Then the replica whose peer stands still (SIGSTOP) beside the one that has none.
Needs root. Usage: local.py BIN-DIRECTORY [ROW...]   (rows: files big fsync tree stalled)
"""
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from places import Disk, Replica, make_tree, run, use, wait_until

use(sys.argv[1])
ROWS = sys.argv[2:] or ['files', 'big', 'fsync', 'tree', 'stalled']
OPS = os.path.abspath(sys.argv[1]) + '/tests/bench/local_ops'
EXAMPLES = '/usr/share/doc/libfuse3-dev/examples'
FILES = int(os.environ.get('BENCH_FILES', '5000'))
MIB = int(os.environ.get('BENCH_MIB', '1024'))


def drop_caches(what):
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as out:
        out.write(str(what))


class Place:
    """Where the work is done: a directory, and what has to be ended."""

    def __init__(self, name, top, *ends):
        self.name, self.top, self.ends = name, top, ends

    def op(self, name, directory, n):
        os.makedirs(f'{self.top}/{directory}', exist_ok=True)
        return float(run(OPS, name, f'{self.top}/{directory}', str(n)))

    def timed(self, *command, check=True):
        before = time.monotonic()
        subprocess.run(command, cwd=self.top, check=check, stdout=subprocess.DEVNULL)
        return time.monotonic() - before

    def close(self):
        for end in self.ends:
            end()


def passthrough(disk):
    """libfuse's example, with writeback caching; None: it is not here."""
    if not os.path.exists(EXAMPLES + '/passthrough_ll.c'):
        return None
    program, source, mount = disk.top + '/passthrough_ll', disk.dir + '/pass', disk.top + '/pass'
    flags = run('pkg-config', '--cflags', '--libs', 'fuse3').split()
    built = subprocess.run(['cc', '-O2', '-w', '-D_GNU_SOURCE', EXAMPLES + '/passthrough_ll.c', '-o', program, '-pthread', *flags], check=False)
    if built.returncode != 0:
        return None
    os.mkdir(source)
    os.mkdir(mount)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # it keeps each file open
    process = subprocess.Popen([program, '-f', '-o', f'writeback,cache=always,source={source}', mount])
    wait_until(lambda: os.path.ismount(mount))
    return Place('passthrough_ll', mount, lambda: run('umount', mount), process.wait)


class Bench:
    def __init__(self):
        self.disk = Disk(24)
        self.places, self.settle, self.peer = [], {}, None

    def start(self):
        os.mkdir(self.disk.dir + '/ext4')
        self.places.append(Place('ext4', self.disk.dir + '/ext4'))
        other = passthrough(self.disk)
        if other:
            self.places.append(other)
        alone = Replica(self.disk, 'alone')
        self.places.append(Place('evfs', alone.mount, alone.stop))
        paired = Replica(self.disk, 'paired')
        self.places.append(Place('evfs + peer', paired.mount, paired.stop))
        self.peer = Replica(self.disk, 'peer', paired)
        self.places[-1].ends += (self.peer.stop,)
        paired.wait()
        # what fsync(2) has promised is sealed after it: not while others are measured
        self.settle['evfs'] = alone.sealed
        self.settle['evfs + peer'] = paired.wait
        print(f'{"work":44}' + ''.join(f'{place.name:>16}' for place in self.places) + f'{"evfs : ext4":>14}{": pass_ll":>12}')

    def row(self, work, count, unit, measure):
        """measure(place): seconds for count units. Prints units a second, and how many times as many as the others."""
        rate = {}
        for place in self.places:
            rate[place.name] = count / max(measure(place), 1e-9)
            self.settle.get(place.name, lambda: None)()
        line = f'{work + " (" + unit + "/s)":44}' + ''.join(f'{rate[place.name]:16.4g}' for place in self.places)
        line += f'{rate["evfs"] / rate["ext4"]:12.2f} x'
        if 'passthrough_ll' in rate:
            line += f'{rate["evfs"] / rate["passthrough_ll"]:10.2f} x'
        print(line, flush=True)

    def files(self):
        def cold(op, what):
            def measure(place):
                drop_caches(what)
                return place.op(op, 'small', FILES)
            return measure

        def warm(op, times=1):
            def measure(place):
                place.op(op, 'small', FILES)
                return sum(place.op(op, 'small', FILES) for _ in range(times))
            return measure
        self.row('create, write 4 KiB, close', FILES, 'files', lambda p: p.op('create', 'small', FILES))
        self.row('stat, cold names', FILES, 'files', cold('stat', 2))
        self.row('stat, warm', 20 * FILES, 'files', warm('stat', 20))
        self.row('stat of absent names, warm', 20 * FILES, 'names', warm('absent', 20))
        self.row('open, read 4 KiB, close, cold', FILES, 'files', cold('read', 3))
        self.row('open, read 4 KiB, close, warm', 5 * FILES, 'files', warm('read', 5))
        self.row('rename', FILES, 'files', lambda p: p.op('rename', 'small', FILES))
        self.row('unlink', FILES, 'files', lambda p: p.op('unlink', 'small', FILES))

    def big(self):
        def cold(place):
            drop_caches(3)
            return place.op('scan', 'big', MIB)

        def warm(place):  # the place that was measured next has dropped what this one had
            place.op('scan', 'big', MIB)
            return place.op('scan', 'big', MIB)
        self.row(f'write {MIB} MiB, synced', MIB, 'MiB', lambda p: p.op('write', 'big', MIB))
        self.row('overwrite it, synced', MIB, 'MiB', lambda p: p.op('overwrite', 'big', MIB))
        self.row('read it, cold', MIB, 'MiB', cold)
        self.row('read it, warm', MIB, 'MiB', warm)
        self.row('4 KiB random reads, warm', 50000, 'reads', lambda p: p.op('rread', 'big', 50000))
        self.row('4 KiB random writes, buffered', 50000, 'writes', lambda p: p.op('rwrite', 'big', 50000))

    def fsync(self):
        self.row('small files with fsync, 1 thread', 1000, 'files', lambda p: p.op('fsync1', 'one', 1000))
        self.row('small files with fsync, 16 threads', 1000, 'files', lambda p: p.op('fsync16', 'sixteen', 1000))

    def tree(self):
        source, archive = self.disk.dir + '/source', self.disk.dir + '/tree.tar'
        make_tree(source, 10000, 80 << 20)
        git = ['git', '-C', source, '-c', 'user.name=bench', '-c', 'user.email=bench@localhost']
        run(*git, 'init', '-q')
        run(*git, 'add', '.')
        run(*git, 'commit', '-q', '-m', 'All')
        run(*git, 'repack', '-qad')
        run('tar', '-cf', archive, '-C', self.disk.dir, 'source')

        def warm(*command):
            def measure(place):
                place.timed(*command, check=False)
                return place.timed(*command, check=False)
            return measure

        def status(place):
            command = ('git', '-C', 'source', 'status', '--short')
            place.timed(*command)  # finds an index that does not know the unpacked files, and reads them all
            return warm(*command)(place)
        self.row('unpack 10,000 files', 1, 'runs', lambda p: p.timed('tar', '-xf', archive))
        self.row('find, warm', 1, 'runs', warm('find', 'source', '-type', 'f'))
        self.row('grep -r, warm', 1, 'runs', warm('grep', '-rc', 'not to be found', 'source'))
        self.row('git status, warm', 1, 'runs', status)
        self.row('compile 200 files', 1, 'runs', self.compile)
        self.row('rm -r', 1, 'runs', lambda p: p.timed('rm', '-r', 'source'))

    def stalled(self):
        alone, paired = (next(place for place in self.places if place.name == name) for name in ('evfs', 'evfs + peer'))
        print(f'{"work":44}{"evfs":>16}{"peer stopped":>16}')
        os.kill(self.peer.pid, signal.SIGSTOP)
        try:
            for work, op, directory, n in (('create, write 4 KiB, close', 'create', 'stalled', FILES), ('rename', 'rename', 'stalled', FILES),
                                           ('unlink', 'unlink', 'stalled', FILES), ('small files with fsync, 1 thread', 'fsync1', 'synced', 1000),
                                           ('small files with fsync, 16 threads', 'fsync16', 'synced16', 1000)):
                one, other = (n / place.op(op, directory, n) for place in (alone, paired))
                print(f'{work + " (files/s)":44}{one:16.4g}{other:16.4g}{other / one:12.2f} x', flush=True)
        finally:
            os.kill(self.peer.pid, signal.SIGCONT)
        self.settle['evfs + peer']()

    @staticmethod
    def compile(place):
        rng = random.Random(3)
        os.mkdir(place.top + '/made')
        for n in range(200):
            with open(f'{place.top}/made/{n}.c', 'w', encoding='ascii') as out:
                out.write(f'#include <stdio.h>\nint f{n}(int x)\n{{\n\treturn printf("%d", x * {rng.randrange(1000)});\n}}\n')
        return place.timed('sh', '-c', 'ls made/*.c | xargs -n 10 -P 2 sh -c \'cd made && cc -c $(for f; do basename $f; done)\' x')

    def close(self):
        for place in self.places:
            place.close()
        self.disk.close()


def main():
    if not shutil.which('git'):
        sys.exit('local.py: git is missing (tools/setup installs it)')
    bench = Bench()
    try:
        bench.start()
        for row in ROWS:
            getattr(bench, row)()
    finally:
        bench.close()


main()
