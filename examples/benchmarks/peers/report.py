"""The table and the plot."""

from pathlib import Path

from peers.catalogue import Peer, Places


def times_file(peer: Peer, model: str, places: Places) -> Path:
    """Where the times of a peer are kept."""
    return places.work / "times" / model / f"{peer.name}.json"
