"""Other people's quantized Whispers, each behind the same few calls.

environments.py    virtual environments with pinned packages, one for packages that get along
catalogue.py       who the peers are: how each is made, what runs it, what it needs on disk
make_*.py          from weights to a peer's files, with the peer's own tools
engine_*.py        a peer's files, opened: PCM in, text out; an encoder pass; decoder steps
worker.py          one engine in a process of its own, asked over a pipe
measure.py         accuracy of a peer; speed of a peer and the float model in turn
report.py          the table and the plot
"""
