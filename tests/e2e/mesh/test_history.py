"""The judge is judged: each fault that it is to find is put before it once."""

import pytest

from lib.history import History, check, content


class Case:
    def __init__(self):
        self.history = History()
        self.edge = self.history.edge("a", "s1")
        self.other = self.history.edge("b", "s2")

    def send(self, *ids, edge=None, session=None):
        for id_ in ids:
            self.history.sent(self.edge if edge is None else edge, "a", id_, ["b"], session)

    def confirm(self, *ids, status="delivered"):
        for id_ in ids:
            self.history.told("a", id_, status)

    def receive(self, *ids, payload=None, **fields):
        for id_ in ids:
            frame = {"src_id": "a", "id": id_, "payload": payload or content("a", id_)} | fields
            self.history.got(self.other, "b", frame)

    def verdict(self, bound=25.0):
        return check(self.history, bound)


@pytest.fixture
def case():
    return Case()


def test_a_good_run(case):
    case.send("1", "2", "3"), case.receive("1", "2", "3"), case.confirm("1", "2", status="delivered")
    case.confirm("3", status="stored")
    verdict = case.verdict()
    assert verdict.is_good(), verdict
    assert (verdict.sent, verdict.confirmed, verdict.received, verdict.duplicated) == (3, 3, 3, 0)


def test_nothing_confirmed_is_no_good_run(case):
    case.send("1")
    assert not case.verdict().is_good()


def test_lost(case):
    case.send("1", "2"), case.confirm("1", "2"), case.receive("2")
    verdict = case.verdict()
    assert len(verdict.lost) == 1 and not verdict.is_good()


def test_what_was_not_confirmed_is_not_lost(case):
    case.send("1", "2", "3"), case.confirm("1"), case.confirm("2", status="dropped"), case.receive("1")
    case.confirm("3", status="unavailable")
    verdict = case.verdict()
    assert verdict.lost == []
    assert len(verdict.refused) == 1, "but the second has a recipient, who exists"


def test_duplicated(case):
    case.send("1"), case.confirm("1"), case.receive("1", "1")
    verdict = case.verdict()
    assert verdict.duplicated == 1 and verdict.is_good()


def test_reordered(case):
    case.send("1", "2", "3"), case.confirm("1", "2", "3"), case.receive("1", "3", "2")
    verdict = case.verdict()
    assert len(verdict.reordered) == 1 and not verdict.is_good()


def test_what_comes_again_later_is_not_reordered(case):
    case.send("1", "2"), case.confirm("1", "2"), case.receive("1", "2", "1")
    assert case.verdict().is_good()


def test_held_mail_may_come_late(case):
    case.send("1", "2"), case.confirm("1", "2"), case.receive("2"), case.receive("1", seq=7)
    verdict = case.verdict()
    assert verdict.is_good() and verdict.late == 1


def test_what_the_client_sent_again_may_come_late(case):
    case.send("1", "2"), case.send("1", edge=case.history.edge("a", "s3")), case.confirm("1", "2")
    case.receive("2"), case.receive("1")
    assert case.verdict().is_good()


def test_edges_have_no_order_among_them(case):
    case.send("1"), case.send("2", edge=case.history.edge("a", "s3")), case.confirm("1", "2"), case.receive("2", "1")
    assert case.verdict().is_good()


def test_altered(case):
    case.send("1"), case.confirm("1"), case.receive("1", payload="another"), case.receive("1")
    assert len(case.verdict().altered) == 1
    case.receive("never-sent")
    assert len(case.verdict().altered) == 2


def test_untold(case):
    case.send("1", "2"), case.confirm("1")
    assert len(case.verdict(bound=-1.0).untold) >= 1
    case.history.ended(case.edge)
    assert case.verdict(bound=0.5).untold == [], "its edge broke before the time was up"


def test_who_reads_slowly_hears_late(case):
    case.send("1", edge=case.history.edge("a", "s1", is_slow=True)), case.receive("1")
    assert len(case.verdict(bound=-1.0).untold) == 1, "but it hears"
    case.confirm("1")
    assert case.verdict(bound=-1.0).is_good()


def test_split(case):
    case.send("1", "2", session="room"), case.confirm("1", "2")
    case.receive("1", "2", session_epoch=1, session_seq=5)
    assert len(case.verdict().split) == 1
