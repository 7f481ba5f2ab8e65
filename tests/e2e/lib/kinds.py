"""Kinds of devices, by what they make of their connection; what they say, and how they send it again, is the same for all."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kind:
    """All times in seconds, as the least and the most of what is drawn each time."""

    name: str
    # More of the query with which it connects.
    query: dict = dataclasses.field(default_factory=dict)
    # How long it keeps a connection before it breaks it itself; `None`: as long as it lasts.
    stays: tuple | None = None
    # How long it then stays away.
    away: tuple = (0.05, 0.4)
    # When it comes back, it comes in at another server.
    roams: bool = False
    # Its app says itself what it has taken in; what it had only received when its connection broke, it has forgotten.
    forgets: bool = False
    # How long each frame takes it, and now and then one: more than the 10 s after which it counts as stalled.
    takes: tuple | None = None
    stalls: tuple = (2.0, 14.0)
    stall_share: float = 0.005
    # From one of these to the next: what it is told must not come so late as if nobody had told it.
    rests: float = 20.0


PLAIN = Kind("plain")
APP = Kind("app", query={"ack": "app"}, forgets=True, stays=(4.0, 30.0))
ROAMING = Kind("roaming", stays=(3.0, 20.0), away=(0.0, 0.2), roams=True)
SLOW = Kind("slow", takes=(0.0, 0.04))
RECONNECTING = Kind("reconnecting", stays=(0.5, 6.0), away=(0.0, 4.0))

KINDS = {kind.name: kind for kind in (PLAIN, APP, ROAMING, SLOW, RECONNECTING)}


def spread(count, kinds, chance):
    """A kind for each of `count` devices: half of them plain if that is among the kinds, and the rest in equal parts."""
    others = [kind for kind in kinds if kind is not PLAIN]
    if not others:
        return [PLAIN] * count
    half = count // 2 if PLAIN in kinds else 0
    all_ = [PLAIN] * half + [others[i % len(others)] for i in range(count - half)]
    chance.shuffle(all_)
    return all_
