"""The functions that `mqtool` exports; the command line and the experiments call these."""
