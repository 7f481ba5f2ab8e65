"""What was sent, told and received, as it was seen from outside, and whether the delivery promise held.

The rules (section 9 of the specification) are checked over the whole history at the end:

- *lost*: somebody was told `delivered` or `stored`, and a recipient has never received it;
- *duplicated*: received more than once with the same sender and id, which the promise allows; it is counted;
- *altered*: received and never sent, or with another content under the same id;
- *reordered*: of two envelopes of one edge to one device the later one was first received first. What a client has sent again by
  itself has two places in its order, and either is right. Mail that was stored or held for an unreachable home may come *late*: it has a
  `seq`, or it is of a session, of which several servers may hold some, and was `stored` before it came. It is counted apart, for a test to
  demand that there is none where no home was unreachable;
- *untold*: an edge lived on for `bound` seconds after something was sent on it, and nothing was said about it; of a device that reads
  slowly only what it has not been told at all;
- *refused*: a sender was told anything but that it is confirmed, or that it must try again: all recipients exist;
- *split*: two envelopes have the same place in a session's order, or one has two within an epoch. While a mesh is cut in two, or when
  the server that numbers dies, what has got through to some before is numbered once more for the others, in a higher epoch.
"""

import collections
import dataclasses
import json
import threading
import time

CONFIRMED = ("delivered", "stored")
AGAIN = ("unavailable", "rate_limited")


@dataclasses.dataclass(slots=True)
class Edge:
    node: str
    server: str
    opened: float
    is_slow: bool = False
    closed: float = float("inf")


@dataclasses.dataclass(slots=True)
class Envelope:
    """One id of one sender; `places` are (edge, number on that edge, when) for each time it was sent; `missing`: who has not
    received it."""

    sender: str
    id: str
    to: tuple
    session: str | None
    missing: set
    places: list = dataclasses.field(default_factory=list)
    told: list = dataclasses.field(default_factory=list)

    @property
    def confirmed(self):
        return any(status in CONFIRMED for _, status in self.told)


@dataclasses.dataclass(slots=True)
class Reception:
    at: float
    edge: int
    id: str
    seq: int | None
    place: tuple | None


class History:
    def __init__(self):
        self.lock = threading.Lock()
        self.began = time.monotonic()
        self.edges, self.envelopes, self.notes = [], {}, []
        self.received = collections.defaultdict(list)
        self.strangers = []
        self.numbers = collections.Counter()
        self.confirmed = 0
        # What is confirmed, and somebody has not received.
        self._open = {}

    def now(self):
        return time.monotonic() - self.began

    def note(self, text):
        with self.lock:
            self.notes.append((self.now(), text))

    def edge(self, node, server, *, is_slow=False):
        with self.lock:
            self.edges.append(Edge(node, server, self.now(), is_slow))
            return len(self.edges) - 1

    def ended(self, edge):
        with self.lock:
            self.edges[edge].closed = self.now()

    def sent(self, edge, sender, id_, to, session=None):
        with self.lock:
            one = self.envelopes.get((sender, id_))
            if one is None:
                to = tuple(to)
                one = self.envelopes[sender, id_] = Envelope(sender, id_, to, session, set(to))
            self.numbers[edge] += 1
            one.places.append((edge, self.numbers[edge], self.now()))

    def told(self, sender, id_, status):
        with self.lock:
            one = self.envelopes[sender, id_]
            if status in CONFIRMED and not one.confirmed:
                self.confirmed += 1
                if one.missing:
                    self._open[sender, id_] = one
            one.told.append((self.now(), status))

    def got(self, edge, node, frame):
        with self.lock:
            key = (frame["src_id"], frame["id"])
            known = self.envelopes.get(key)
            if known is None or node not in known.to or frame.get("payload") != content(*key):
                self.strangers.append((node, frame))
                return
            place = (frame["session_epoch"], frame["session_seq"]) if "session_seq" in frame else None
            self.received[node, frame["src_id"]].append(Reception(self.now(), edge, known.id, frame.get("seq"), place))
            known.missing.discard(node)
            if not known.missing:
                self._open.pop(key, None)

    def unreceived(self):
        """(node, sender, id) of what was confirmed and is not there yet."""
        with self.lock:
            return [(node, one.sender, one.id) for one in self._open.values() for node in one.missing]

    def write(self, path):
        with self.lock, open(path, "w") as out:
            for number, edge in enumerate(self.edges):
                print(json.dumps({"edge": number} | dataclasses.asdict(edge)), file=out)
            for one in self.envelopes.values():
                print(json.dumps(dataclasses.asdict(one), default=sorted), file=out)
            for (node, source), all_ in self.received.items():
                for one in all_:
                    print(json.dumps({"node": node, "source": source} | dataclasses.asdict(one)), file=out)
            for at, text in self.notes:
                print(json.dumps({"at": at, "note": text}), file=out)


def content(sender, id_):
    """The payload of an envelope, which its names say all about."""
    return f"{sender}/{id_}"


@dataclasses.dataclass
class Verdict:
    sent: int = 0
    confirmed: int = 0
    received: int = 0
    duplicated: int = 0
    late: int = 0
    slowest: float = 0.0
    lost: list = dataclasses.field(default_factory=list)
    altered: list = dataclasses.field(default_factory=list)
    reordered: list = dataclasses.field(default_factory=list)
    untold: list = dataclasses.field(default_factory=list)
    refused: list = dataclasses.field(default_factory=list)
    split: list = dataclasses.field(default_factory=list)

    FAULTS = ("lost", "altered", "reordered", "untold", "refused", "split")

    def is_good(self):
        return self.confirmed > 0 and not any(getattr(self, name) for name in self.FAULTS)

    def __str__(self):
        figures = [("sent", self.sent), ("confirmed", self.confirmed), ("received", self.received)]
        figures += [(name, len(getattr(self, name))) for name in self.FAULTS]
        figures += [("duplicated", self.duplicated), ("late", self.late)]
        return ", ".join(f"{name} {value}" for name, value in figures) + f", slowest word {self.slowest:.1f} s"

    def examples(self, most=5):
        lines = []
        for name in self.FAULTS:
            lines += [f"  {name}: {one}" for one in getattr(self, name)[:most]]
        return "\n".join(lines)


def check(history, bound=25.0):
    with history.lock:
        verdict = Verdict(sent=len(history.envelopes), altered=list(history.strangers))
        _count(history, verdict)
        _words(history, verdict, bound)
        _order(history, verdict)
        _sessions(history, verdict)
        return verdict


def _count(history, verdict):
    for all_ in history.received.values():
        verdict.received += len(all_)
        verdict.duplicated += len(all_) - len({one.id for one in all_})
    for one in history.envelopes.values():
        if one.confirmed:
            verdict.confirmed += 1
            verdict.lost += [f"{one.id} to {node}: told {one.told}, sent {one.places}" for node in sorted(one.missing)]


def _words(history, verdict, bound):
    end = history.now()
    for one in history.envelopes.values():
        wrong = [status for _, status in one.told if status not in CONFIRMED + AGAIN]
        verdict.refused += [f"{one.id} to {one.to}, {one.session}: {status}" for status in wrong]
        for edge, _, at in one.places:
            word = next((told for told, _ in one.told if told >= at), None)
            lived = min(history.edges[edge].closed, end) - at
            if word is not None and not history.edges[edge].is_slow:
                verdict.slowest = max(verdict.slowest, word - at)
            late = word is None or (word - at > bound and not history.edges[edge].is_slow)
            if late and lived > bound:
                verdict.untold.append(f"{one.id} to {one.to}: sent {at:.1f} on edge {edge} of {history.edges[edge]}")


def _order(history, verdict):
    for (node, source), all_ in history.received.items():
        highest = {}
        seen = set()
        for one in all_:
            if one.id in seen:
                continue
            seen.add(one.id)
            envelope = history.envelopes[source, one.id]
            if len(envelope.places) > 1:
                # Sent again: either place would be right.
                continue
            ((edge, number, _),) = envelope.places
            # Envelopes to sessions go by way of the session's home, and have an order of their own.
            lane = (edge, envelope.session)
            before = highest.get(lane)
            if before is not None and number < before[0]:
                was_held = envelope.session and any(at < one.at and status == "stored" for at, status in envelope.told)
                if one.seq is not None or was_held:
                    verdict.late += 1
                else:
                    verdict.reordered.append(
                        f"{node} met {one.id} (number {number} of edge {edge}, {envelope.session}) at {one.at:.2f} "
                        f"after {before[1]} (number {before[0]}) at {before[2]:.2f}"
                    )
            else:
                highest[lane] = (number, one.id, one.at)


def _sessions(history, verdict):
    places = {}
    of = {}
    for (node, source), all_ in history.received.items():
        for one in all_:
            if one.place is None:
                continue
            session = history.envelopes[source, one.id].session
            if places.setdefault((session, one.place), (source, one.id)) != (source, one.id):
                verdict.split.append(f"{session} {one.place}: {places[session, one.place]} and {(source, one.id)}")
            key = source, one.id, one.place[0]
            if of.setdefault(key, one.place) != one.place:
                verdict.split.append(f"{one.id} is {of[key]} and, for {node}, {one.place}")
