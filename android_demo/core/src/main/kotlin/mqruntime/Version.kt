package mqruntime

/** Of this library: the same as Python's `mqruntime.__version__`. */
const val VERSION = "0.3.0"
