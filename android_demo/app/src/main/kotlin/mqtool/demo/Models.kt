package mqtool.demo

import mqruntime.Bundle
import mqruntime.Recognizer
import java.io.File

/** The opened model: one at a time, since each takes memory. For the worker's thread, but for [close]. */
class Models {
    /** A bundle and the recognizer made from it. */
    class Opened(val bundle: Bundle, val recognizer: Recognizer)

    private var opened: Opened? = null

    /** The model of a file, opened unless it is. */
    @Synchronized
    fun open(file: File): Opened {
        opened?.let { if (it.bundle.path == file) return it }
        close()
        val bundle = Bundle.open(file)
        return Opened(bundle, Recognizer.openBundle(bundle)).also { opened = it }
    }

    /** Free the memory; what is running ends first. */
    @Synchronized
    fun close() {
        opened?.recognizer?.close()
        opened = null
    }
}
