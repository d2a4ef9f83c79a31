package mqtool.demo

import mqruntime.Recognizer
import mqruntime.Result
import java.util.concurrent.atomic.AtomicBoolean

/**
 * Keywords in live audio: every quarter of a second the last second is named, and a word that is
 * heard several times in a row is reported once.
 *
 * @param threshold least probability.
 * @param cancel as of [Recognizer.transcribe].
 * @param quietDb nothing below this level is given to the model.
 */
class KeywordSpotter(
    private val recognizer: Recognizer,
    private val threshold: Double = 0.6,
    private val cancel: AtomicBoolean? = null,
    private val quietDb: Double = -55.0,
    private val ignored: Set<String> = setOf("_silence_", "_unknown_", "silence", "unknown"),
) {
    private val rate = recognizer.manifest.sampleRate
    private val hop = rate / 4
    private val window = FloatArray(rate)
    private var waiting = 0
    private var last: String? = null

    /** Take PCM in, of any length; words that were newly heard, with their scores. */
    fun feed(chunk: FloatArray): List<Result> {
        val found = ArrayList<Result>()
        var at = 0
        while (at < chunk.size) {
            val count = minOf(hop - waiting, chunk.size - at)
            window.copyInto(window, 0, count, window.size)
            chunk.copyInto(window, window.size - count, at, at + count)
            at += count
            waiting += count
            if (waiting == hop) {
                waiting = 0
                name()?.let(found::add)
            }
        }
        return found
    }

    private fun name(): Result? {
        val isQuiet = mqruntime.EnergyVad.levelDb(window) < quietDb
        val result = if (isQuiet) null else recognizer.transcribe(window, cancel = cancel)
        val word = result?.text?.takeIf { (result.score ?: 0.0) >= threshold && it !in ignored }
        val isNew = word != null && word != last
        last = word
        return if (isNew) result else null
    }
}
