# SPDX-License-Identifier: GPL-3.0-or-later
"""Where benchmarks work: a fresh disk, replicas on it, a tree of files."""
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time


def use(directory):
    """The programs of this build from now on."""
    os.environ['PATH'] = os.path.abspath(directory) + ':' + os.environ['PATH']
    os.environ.pop('EVFS_STORE', None)


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(condition)
        time.sleep(0.002)


class Disk:
    """A fresh ext4 in a file."""

    def __init__(self, gib=12):
        self.top = tempfile.mkdtemp(prefix='evfs-bench.')
        os.chmod(self.top, 0o755)
        image = self.top + '/image'
        run('truncate', '-s', f'{gib}G', image)
        run('mkfs.ext4', '-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image)
        self.loop = run('losetup', '-f', '--show', '--direct-io=on', image).strip()
        self.dir = self.top + '/disk'
        os.mkdir(self.dir)
        run('mount', self.loop, self.dir)

    def close(self):
        subprocess.run(['umount', self.dir], check=False)
        subprocess.run(['losetup', '-d', self.loop], check=False)
        shutil.rmtree(self.top, ignore_errors=True)


class Replica:
    def __init__(self, disk, name, inviter=None):
        self.name, self.store, self.mount = name, f'{disk.dir}/{name}.store', f'{disk.top}/{name}'
        os.makedirs(self.mount, exist_ok=True)
        listen = f'127.0.0.1:{free_port()}'
        if inviter:
            token = inviter.ctl('invite').strip()
            run('evfsctl', 'join', token, self.store, '--name', name, '--listen', listen)
        else:
            run('evfsctl', 'init', self.store, '--name', name, '--listen', listen)
        self.start()

    def start(self):
        before = time.monotonic()
        run('evfs', self.store, self.mount)
        self.mount_s = time.monotonic() - before
        self.pid = self.status()['node']['pid']

    def stop(self):
        run('umount', self.mount)
        wait_until(lambda: not os.path.exists(f'/proc/{self.pid}'))

    def ctl(self, *command):
        return run('evfsctl', '-s', self.store, *command)

    def status(self):
        done = subprocess.run(['evfsctl', '-s', self.store, 'status', '--json'], stdout=subprocess.PIPE, text=True, check=False)
        return json.loads(done.stdout)

    def wait(self):
        self.ctl('status', '--wait', '--timeout', '300')

    def sealed(self):
        """Until no long file is left as a working copy."""
        wait_until(lambda: not os.listdir(self.store + '/work'))

    def wire(self):
        return self.status()['traffic']['bytes_sent'] + self.status()['traffic']['bytes_received']

    def rss_mib(self):
        with open(f'/proc/{self.pid}/status', encoding='ascii') as status:
            for line in status:
                if line.startswith('VmRSS'):
                    return int(line.split()[1]) / 1024
        return 0


def make_tree(top, files=9000, size=120 << 20):
    """A source tree: files of few and of many bytes, text and noise, in nested directories."""
    rng = random.Random(7)
    for n in range(files):
        directory = f'{top}/{n % 37}/{n % 11}'
        os.makedirs(directory, exist_ok=True)
        length = min(int(rng.expovariate(1 / (size / files))), 400000) + 20
        data = rng.randbytes(length // 3)
        with open(f'{directory}/{n}.c', 'wb') as out:
            out.write((data.hex().encode() + b'\n' * length)[:length])
