package mqtool.demo

import java.util.concurrent.atomic.AtomicBoolean

/** What a recording is for. */
enum class Purpose { TRANSCRIBE, COMPARE, CLIP, KEYWORDS }

/** Samples that are being recorded, up to [LONGEST] seconds. */
class Recording(val purpose: Purpose) {
    private val chunks = ArrayList<FloatArray>()
    private var size = 0

    /** Set when it has ended, for what hears it while it goes on. */
    val ended = AtomicBoolean()

    val isFull: Boolean get() = size >= LONGEST * PhoneMicrophone.RATE

    @Synchronized
    fun add(chunk: FloatArray) {
        if (isFull) return
        chunks.add(chunk)
        size += chunk.size
    }

    /** All samples so far. */
    @Synchronized
    fun pcm(): FloatArray {
        val whole = FloatArray(size)
        var at = 0
        for (chunk in chunks) {
            chunk.copyInto(whole, at)
            at += chunk.size
        }
        return whole
    }

    companion object {
        const val LONGEST = 300
        const val SHORTEST = 0.2
    }
}
