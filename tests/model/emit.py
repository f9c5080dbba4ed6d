#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""emit.py: random scenarios, with the tree that the model says must come out, in the form of vectors.json.

  python3 emit.py --count N --seed S > FILE        the same seed gives the same scenarios

It runs the model itself (explore.Script, ops.Replica) and writes down what it did. Beyond README.md's format:

  * {path:MASKED:C}   stands for the one path whose masked form is MASKED and whose content is C: real names that came from
                      generated ones have digits in them that differ between implementations
  * [REPLICA, "close"]  closes the oldest open handle
  * [REPLICA, "collect"]  drops the tombstones that are causally stable, by what the exchanges so far have told
  * "refused"         one entry for each step: true or false where one operation was refused or done, null where the step is
                      made of several
  * sibling_of is masked like path, and of 16 or 32 digits all are masked

A directory is collected only when no record names it as parent (DESIGN, section 3). facts.py leaves that out, and a file that
is written through a handle after its dead directory was collected is then hidden on one replica (seed 76).

Three adjustments make the model comparable with an implementation without touching its rules:

  * a step is 1,000 units of time, not one: an operation takes several stamps, each one unit later than the last, and the
    clock of an implementation in nanoseconds does not run ahead of its steps by that;
  * counters start at 1,000,000, so that the order of inodes as texts is the order of their dots as numbers;
  * links of an object are kept in the order of their making (the model keeps the order in which they became known here, and
    takes the first one that lives where any would do).

And in three places the implementation is stricter than the model, for the sake of permissions; these are copied here:

  * a version that becomes a file of its own keeps set-ID bits only if the one who set them had seen that version;
  * content that is written to a sibling gets no set-ID bits;
  * a sibling that is written to after it has vanished comes back with the attributes of its inode, not with none."""
import argparse
import json
import os
import random
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import explore                                     # noqa: E402
import facts                                       # noqa: E402
import ops                                         # noqa: E402
from facts import DIR, FILE, NOTHING               # noqa: E402
from view import SUID_SGID                         # noqa: E402

FIRST, STEP = 1000000, 1000
SIMPLE = ('create', 'mkdir', 'symlink', 'write', 'open', 'rename', 'link', 'unlink', 'rmdir', 'chmod', 'setxattr')

plain_init = facts.Object.__init__


def sorted_init(self, *args, **named):
    plain_init(self, *args, **named)
    self.links = dict(sorted(self.links.items()))


facts.Object.__init__ = sorted_init
plain_garbage = facts.garbage


def unnamed_garbage(objects):
    """Without the directories that some record, dead or alive, names as parent."""
    named = {link.place.parent for obj in objects.values() for link in obj.links.values()}
    return [ino for ino in plain_garbage(objects) if objects[ino].kind is not DIR or ino not in named]


facts.garbage = unnamed_garbage


class Kept(dict):
    """Attributes that were looked at already."""


def without_set_id(attrs):
    return {key: register._replace(value=register.value & ~SUID_SGID, saw=NOTHING) if key == 'mode' else register
            for key, register in attrs.items()}


class StrictTransaction(ops.Transaction):
    def new_object(self, kind, parent, name, content=None, target=None, attrs=()):
        if kind == FILE and not isinstance(attrs, Kept):
            attrs = without_set_id(dict(attrs) or self.replica.inherited)
        return super().new_object(kind, parent, name, content, target, attrs)


ops.Transaction = StrictTransaction


class StrictReplica(ops.Replica):
    inherited = {}

    def split_off(self, tx, member, parent, name, carrier=None):
        ino, _, dots = member
        obj = tx.get(ino)
        present = [dot for dot in dots if dot in obj.versions]
        if present and carrier is None:
            attrs = Kept((key, register if present[0] in register.saw else register._replace(saw=NOTHING))
                         for key, register in obj.attrs.items())
            carrier = tx.new_object(FILE, parent, name, obj.versions[present[0]].content, attrs=attrs)
            self.follow(tx, ino, dots, carrier)
        tx.remove_versions(ino, present)
        return carrier

    def seal(self, handle, content):
        if self.tree.find_version(handle.ino, handle.lid, handle.base)[1] is None:
            self.inherited = self.objects[handle.ino].attrs
        try:
            super().seal(handle, content)
        finally:
            self.inherited = {}


def masked(path):
    return re.sub(r'(\.conflict-\w+-)([0-9a-f]+)', lambda m: m[1] + 'V' * len(m[2]), path)


class Inexpressible(Exception):
    """No text of the format stands for this path."""


class Emitter(explore.Script):
    def __init__(self, seed):
        explore.History.__init__(self, seed, 'delta')
        self.world = ops.World()
        names = list(self.replicas)
        for name in names:
            replica = self.world.members[name] = StrictReplica(name, self.world)
            replica.counter = replica.leased = FIRST
            replica.context.upto = {(other, 0): FIRST for other in names}
            replica.sync()
        self.replicas = dict(self.world.members)
        self.written, self.refused, self.failed = [], [], None
        self.theme = self.rng.choice((self.theme, 'conflicts', 'links', 'handles'))
        self.collects = random.Random(-seed).random() < 0.5

    # -- doing --

    def do(self, step):
        self.world.now += STEP - 1
        super().do(step)

    def exchange(self, dst, src, kind, param=None):
        facts.take_delta(dst, src, param)
        dst.hear_clock(src.clock)
        dst.reports[src.name] = src.context.copy()
        src.reports[dst.name] = dst.context.copy()

    def collect(self, replica):
        before = replica.tree.render()
        if all(name in replica.reports for name in self.world.members if name != replica.name):
            facts.collect(replica, list(replica.reports.values()))
        assert before == replica.tree.render()

    def no_surprise(self, replica, before, name, args, failed):
        self.failed = failed is not None

    def seal(self, replica, content):
        handles = self.opened.get(replica.name)
        if handles:
            replica.seal(handles[0], content)

    def close(self, name):
        if self.opened.get(name):
            self.replicas[name].close(self.opened[name].pop(0))

    def perform(self, step):
        """One step of the format; its arguments are literal here."""
        self.failed = None
        if step[0] == 'sync':
            for _ in range(2):
                for dst in self.replicas:
                    for src in self.replicas:
                        if dst != src:
                            self.do(['delta', dst, src])
        elif step[1] == 'close':
            self.world.now += STEP
            self.close(step[0])
        elif step[1] == 'collect':
            self.world.now += STEP
            self.collect(self.replicas[step[0]])
        else:
            opened = len(self.opened.get(step[0], ()))
            self.do(step)
            if step[1] == 'open':
                self.failed = len(self.opened.get(step[0], ())) == opened
        return self.failed if step[0] != 'delta' and step[-1] != 'sync' and step[1] in SIMPLE else None

    # -- writing down --

    def refer(self, tree, path):
        if '.conflict-' not in path:
            return path
        if path not in tree.entries:
            raise Inexpressible
        entry = tree.entries[path]
        if entry.plain is not None and '.conflict-' not in entry.plain:
            alike = [p for p in tree.siblings[entry.plain] if tree.entries[p].content == entry.content]
            if alike == [path]:
                return f'{{sibling:{entry.plain}:{entry.content}}}'
        alike = [p for p, e in tree.entries.items() if masked(p) == masked(path) and e.content == entry.content]
        if alike != [path]:
            raise Inexpressible
        return f'{{path:{masked(path)}:{entry.content}}}'

    def text_of(self, step):
        if step[0] == 'sync':
            return step
        if step[0] == 'delta':
            return step[:3] if step[3] is None else step
        tree, name = self.replicas[step[0]].tree, step[1]
        if name in ('rm_rf', 'list'):              # whose order is that of the names: it must not hang on digits
            heads = [re.match(r'(.*?\.conflict-\w+-)', p) for p in tree.entries if p.startswith(step[2] + '/')]
            heads = [head[1] for head in heads if head]
            if len(heads) > len(set(heads)):
                raise Inexpressible
        paths = {'rename': 2, 'link': 2, 'seal': 0, 'close': 0, 'rmlist': 0, 'collect': 0}.get(name, 1)
        return step[:2] + [self.refer(tree, a) if n < paths else str(a) for n, a in enumerate(step[2:])]

    # What happens more often in a history of this theme, with the weight of each (explore.py's own themes: nothing).
    THEMES = {
        'conflicts': {'create': 8, 'write': 6, 'open': 1, 'seal': 1, 'link': 2, 'rename': 1, 'chmod': 1, 'unlink': 1},
        'links': {'create': 2, 'write': 5, 'link': 5, 'sibling': 5, 'unlink': 1, 'rename': 1},
        'handles': {'create': 3, 'mkdir': 1, 'write': 1, 'open': 5, 'seal': 5, 'unlink': 2, 'rm_rf': 2, 'link': 1, 'sibling': 1},
    }
    PATHS = ('/a', '/f.txt', '/d/f.txt')

    # What chance seldom brings about: several contents of a file with two names beside another file that took one of them;
    # open files in directories that are gone. P and Q are two replicas.
    OPENINGS = (
        (['P', 'create', '/f.txt', '1'], ['P', 'link', '/f.txt', '/b'], ['Q', 'create', '/f.txt', '2'], ['sync'],
         ['P', 'write', '/b', '3'], ['Q', 'write', '/b', '4'], ['sync']),
        (['P', 'create', '/f.txt', '1'], ['P', 'link', '/f.txt', '/b'], ['Q', 'create', '/f.txt', '2'], ['sync'],
         ['P', 'write', '/b', '2'], ['Q', 'write', '/b', '4'], ['sync'], ['P', 'write', '/f.txt', '5']),
        (['P', 'mkdir', '/d'], ['P', 'create', '/d/f.txt', '1'], ['sync'], ['P', 'open', '/d/f.txt'], ['Q', 'rm_rf', '/d'],
         ['delta', 'P', 'Q']),
        (['P', 'mkdir', '/d'], ['P', 'create', '/d/f.txt', '1'], ['sync'], ['P', 'open', '/d/f.txt'], ['Q', 'rm_rf', '/d'],
         ['delta', 'P', 'Q'], ['P', 'seal', '2'], ['P', 'unlink', '/d/f.txt']),
        (['P', 'mkdir', '/d'], ['P', 'create', '/d/f.txt', '1'], ['sync'], ['P', 'open', '/d/f.txt'], ['Q', 'rm_rf', '/d'],
         ['Q', 'mkdir', '/d'], ['delta', 'P', 'Q'], ['P', 'mkdir', '/a']),
        (['P', 'mkdir', '/a'], ['Q', 'mkdir', '/b'], ['sync'], ['P', 'rename', '/a', '/b/a'], ['Q', 'rename', '/b', '/a/b'],
         ['sync']),
    )

    def opening(self):
        p, q = self.rng.sample(list(self.replicas), 2)
        return [[{'P': p, 'Q': q}.get(word, word) for word in step] for step in self.rng.choice(self.OPENINGS)]

    def choose_operation(self, who):
        rng, weights = self.rng, self.THEMES.get(self.theme)
        if weights is None or rng.random() < 0.4:
            return super().choose_operation(who)
        at, to, tree = rng.choice(self.PATHS), rng.choice(self.PATHS + ('/b',)), self.replicas[who].tree
        siblings = sorted(s for group in tree.siblings.values() for s in group)
        name, = rng.choices(list(weights), weights.values())
        if name == 'sibling' and siblings:
            at, name = rng.choice(siblings), rng.choice(('unlink', 'rename', 'link', 'write', 'open'))
            to = rng.choice((to, tree.entries[at].plain))
        return {'create': ['create', at, self.content()], 'write': ['write', at, self.content()], 'seal': ['seal', self.content()],
                'link': ['link', at, to], 'rename': ['rename', at, to], 'chmod': ['chmod', at, 0o4755], 'mkdir': ['mkdir', '/d'],
                'rm_rf': ['rm_rf', '/d']}.get(name, [name if name != 'sibling' else 'open', at])

    def choose_step(self):
        draw = self.rng.random()
        if draw < 0.04:
            return ['sync']
        if draw < 0.26:
            dst, src = self.rng.sample(list(self.replicas), 2)
            return ['delta', dst, src, self.rng.choice((None, None, None, 0, 1, 2, 3))]
        who = self.rng.choice(list(self.replicas))
        if self.collects and self.rng.random() < 0.12:
            return [who, 'collect']
        if draw < 0.29 and self.opened.get(who):
            return [who, 'close']
        step = [who] + self.choose_operation(who)
        return step[:-1] + [str(step[-1])] if step[1] == 'setxattr' else step

    def scenario(self, name, length):
        opening = self.opening() if self.rng.random() < 0.3 else []
        for step in range(length + len(opening)):
            step = opening[step] if step < len(opening) else self.choose_step()
            if step[0] == 'delta':
                step = (step + [None])[:4]
            try:
                text = self.text_of(step)
            except Inexpressible:
                continue
            self.written.append(text)
            self.refused.append(self.perform(step))
        self.written.append(['sync'])
        self.refused.append(self.perform(['sync']))
        rendered = [r.tree.render() for r in self.replicas.values()]
        assert all(r == rendered[0] for r in rendered), name
        expect = [self.line(*item) for item in rendered[0].items()]
        return {'name': name, 'rule': '-', 'replicas': list(self.replicas), 'steps': self.written, 'refused': self.refused,
                'expect': sorted(expect, key=lambda line: (line['path'], line['content'] or ''))}

    @staticmethod
    def line(path, shown):
        out = explore.Script.line(path, shown)
        out['path'] = masked(path)
        out['sibling_of'] = shown[4] and masked(shown[4])
        return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=100)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--length', type=int, default=0, help='steps of each scenario; 0: 10 to 45')
    options = parser.parse_args()
    print('{"format": 1, "scenarios": [')
    for seed in range(options.seed, options.seed + options.count):
        length = options.length or random.Random(seed).randrange(10, 46)
        print(json.dumps(Emitter(seed).scenario(f'random {seed}', length), ensure_ascii=False), end='')
        print(',' if seed + 1 < options.seed + options.count else '')
    print(']}')


if __name__ == '__main__':
    main()
