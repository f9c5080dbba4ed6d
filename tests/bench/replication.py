#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two replicas on loopback beside cp and rsync over ssh, in one run: a table of figures and ratios.

Works on a freshly made ext4 in a loop-mounted file (direct I/O), so that what an earlier run left on the disk does not count.
Needs root. Usage: replication.py BIN-DIRECTORY [ROW...]   (rows: latency tree big patch rename outage handoff memory)
"""
import filecmp
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from places import Disk, Replica, free_port, make_tree, run, use, wait_until

use(sys.argv[1])
ROWS = sys.argv[2:] or ['latency', 'tree', 'big', 'patch', 'rename', 'outage', 'handoff', 'memory']


class Sshd:
    """An sshd of our own on loopback, for rsync -e ssh."""

    def __init__(self, disk):
        self.dir, self.port = disk.top + '/sshd', free_port()
        os.mkdir(self.dir, 0o700)
        for key in ('host', 'user'):
            run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', f'{self.dir}/{key}')
        shutil.copy(f'{self.dir}/user.pub', f'{self.dir}/authorized')
        with open(f'{self.dir}/config', 'w', encoding='ascii') as config:
            config.write(f'Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.dir}/host\nStrictModes no\nUsePAM no\n'
                         f'PidFile none\nAuthorizedKeysFile {self.dir}/authorized\nPermitRootLogin yes\n')
        os.makedirs('/run/sshd', exist_ok=True)
        self.process = subprocess.Popen(['/usr/sbin/sshd', '-D', '-f', f'{self.dir}/config'], stderr=subprocess.DEVNULL)
        self.shell = (f'ssh -p {self.port} -i {self.dir}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null '
                      '-o LogLevel=ERROR')

        def answers():
            return subprocess.run(self.shell.split() + ['127.0.0.1', 'true'], check=False).returncode == 0
        wait_until(answers)

    def rsync(self, source, target, *options):
        before = time.monotonic()
        run('rsync', '-a', *options, '-e', self.shell, source, f'127.0.0.1:{target}')
        return time.monotonic() - before

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def same(left, right):
    match = filecmp.dircmp(left, right)
    if match.left_only or match.right_only or match.diff_files or match.funny_files:
        return False
    return all(same(f'{left}/{d}', f'{right}/{d}') for d in match.common_dirs)


class Bench:
    def __init__(self):
        self.disk = Disk()
        self.sshd = Sshd(self.disk)
        self.a = Replica(self.disk, 'A')
        self.b = Replica(self.disk, 'B', self.a)
        self.a.wait()
        self.lines = []

    def say(self, work, figure, floor, good):
        self.lines.append(f'{work:58} {figure:44} {floor:28} {"ok" if good else "BELOW"}')
        print(self.lines[-1], flush=True)

    def latency(self):
        times = []
        for n in range(300):
            data = os.urandom(4096)
            before = time.perf_counter()
            with open(f'{self.a.mount}/l{n}', 'wb') as out:
                out.write(data)
            while True:
                try:
                    with open(f'{self.b.mount}/l{n}', 'rb') as got:
                        if got.read() == data:
                            break
                except FileNotFoundError:
                    pass
            times.append((time.perf_counter() - before) * 1000)
        times.sort()
        median, p99 = statistics.median(times), times[int(len(times) * 0.99)]
        self.say('4 KiB file, until readable on B', f'median {median:.1f} ms, p99 {p99:.1f} ms', '20 ms, 100 ms',
                 median <= 20 and p99 <= 100)

    def tree(self):
        source = self.disk.dir + '/source'
        make_tree(source)
        os.sync()
        before = time.monotonic()
        run('cp', '-a', source, self.disk.dir + '/plain')
        other = time.monotonic() - before + self.sshd.rsync(self.disk.dir + '/plain/', self.disk.dir + '/far/')
        os.sync()
        before = time.monotonic()
        run('cp', '-a', source, self.a.mount + '/tree')
        copied = time.monotonic() - before
        self.a.wait()
        ours = time.monotonic() - before
        assert same(source, self.b.mount + '/tree')
        self.say('9,000 files, 120 MB, until B is identical',
                 f'{ours:.2f} s (cp {copied:.2f}); cp+rsync {other:.2f} s: {ours / other:.2f} x', '2.0 x', ours <= 2 * other)

    def big(self):
        source = self.disk.dir + '/big'
        run('dd', 'if=/dev/urandom', f'of={source}', 'bs=1M', 'count=512', 'status=none')
        os.sync()
        before = time.monotonic()
        run('cp', source, self.disk.dir + '/big.copy')
        other = time.monotonic() - before + self.sshd.rsync(self.disk.dir + '/big.copy', self.disk.dir + '/big.far')
        os.sync()
        before = time.monotonic()
        run('cp', source, self.a.mount + '/big')
        copied = time.monotonic() - before
        self.a.wait()
        ours = time.monotonic() - before
        assert filecmp.cmp(source, self.b.mount + '/big', shallow=False)
        self.say('512 MiB random file, until B is identical',
                 f'{ours:.2f} s (cp {copied:.2f}); cp+rsync {other:.2f} s: {ours / other:.2f} x', '1.0 x', ours <= other)

    def patch(self):
        if not os.path.exists(self.a.mount + '/big'):
            self.big()
        data = os.urandom(4096)
        wire = self.a.wire()
        before = time.monotonic()
        with open(self.a.mount + '/big', 'r+b') as out:
            out.seek(256 << 20)
            out.write(data)
        self.a.wait()
        ours = time.monotonic() - before
        sent = (self.a.wire() - wire) / 1024
        with open(self.b.mount + '/big', 'rb') as got:
            got.seek(256 << 20)
            assert got.read(4096) == data
        self.say('4 KiB changed in its middle', f'{ours * 1000:.0f} ms, {sent:.0f} KiB on the wire', '500 ms, 1024 KiB',
                 ours <= 0.5 and sent <= 1024)

    def rename(self):
        os.mkdir(self.a.mount + '/five')
        for n in range(5000):
            with open(f'{self.a.mount}/five/{n}', 'w', encoding='ascii') as out:
                out.write(str(n))
        self.a.wait()
        wire = self.a.wire()
        before = time.monotonic()
        os.rename(self.a.mount + '/five', self.a.mount + '/cinq')
        while not os.path.exists(self.b.mount + '/cinq'):
            pass
        ours = (time.monotonic() - before) * 1000
        self.a.wait()
        sent = (self.a.wire() - wire) / 1024
        assert len(os.listdir(self.b.mount + '/cinq')) == 5000
        self.say('directory of 5,000 files renamed', f'{ours:.1f} ms, {sent:.1f} KiB on the wire', '50 ms, 16 KiB',
                 ours <= 50 and sent <= 16)

    def outage(self):
        base = self.a.mount + '/outage'
        os.mkdir(base)
        for n in range(1000):
            with open(f'{base}/old{n}', 'w', encoding='ascii') as out:
                out.write(str(n) * 100)
        self.a.wait()
        self.b.stop()
        for n in range(2000):
            with open(f'{base}/new{n}', 'w', encoding='ascii') as out:
                out.write(str(n) * 200)
        for n in range(500):
            os.remove(f'{base}/old{n}')
        before = time.monotonic()
        self.b.start()
        self.b.wait()
        ours = time.monotonic() - before
        assert same(base, self.b.mount + '/outage')
        self.say('2,000 written, 500 deleted while B was away', f'{ours * 1000:.0f} ms from its start', '1000 ms', ours <= 1)

    def handoff(self):
        """An outage with 100,000 changes: half of them new files with bytes, half metadata of old ones."""
        base = self.a.mount + '/handoff'
        for d in range(50):
            os.makedirs(f'{base}/{d}')
            for n in range(1000):
                with open(f'{base}/{d}/old{n}', 'w', encoding='ascii') as out:
                    out.write(f'{d}/{n}')
        self.a.wait()
        self.a.ctl('pause')
        for d in range(50):
            for n in range(1000):
                os.chmod(f'{base}/{d}/old{n}', 0o600)
                with open(f'{base}/{d}/new{n}', 'w', encoding='ascii') as out:
                    out.write(f'{d}/{n}')
        held = self.a.status()['hints']['held']
        before = time.monotonic()
        self.a.ctl('resume')
        self.a.wait()
        ours = time.monotonic() - before
        assert same(base, self.b.mount + '/handoff')
        after = self.a.status()['hints']
        self.say('100,000 objects changed while B was away',
                 f'{ours * 1000:.0f} ms, {100000 / ours:.0f}/s; held {held}, delivered {after["delivered"]}', '10,000/s',
                 100000 / ours >= 10000)

    def memory(self):
        self.a.stop()
        self.a.start()
        few = self.a.mount_s
        for d in range(100):
            os.makedirs(f'{self.a.mount}/mem/{d}')
            for n in range(1000):
                with open(f'{self.a.mount}/mem/{d}/{n}', 'w', encoding='ascii') as out:
                    out.write(f'{d}/{n}')
        self.a.wait()
        for replica in (self.a, self.b):
            replica.stop()
            replica.start()
        self.a.wait()
        rss, many = max(self.a.rss_mib(), self.b.rss_mib()), self.a.mount_s
        self.say('100,000 files: idle daemon, time to mount', f'{rss:.0f} MiB; {many * 1000:.0f} ms (few files {few * 1000:.0f} ms)',
                 '64 MiB; no scan', rss <= 64 and many < few + 0.2)

    def close(self):
        for replica in (self.a, self.b):
            subprocess.run(['umount', '-l', replica.mount], check=False, stderr=subprocess.DEVNULL)
            try:
                wait_until(lambda r=replica: not os.path.exists(f'/proc/{r.pid}'), 20)
            except TimeoutError:
                os.kill(replica.pid, signal.SIGKILL)
        self.sshd.close()
        self.disk.close()


def main():
    bench = Bench()
    try:
        print(f'{"work (two replicas on loopback)":58} {"measured":44} {"floor":28}')
        for row in ROWS:
            getattr(bench, row)()
    finally:
        bench.close()


main()
