"""`python -m mqtool.cli`: the same as `mqtool`."""

from mqtool.cli.main import main

main()
