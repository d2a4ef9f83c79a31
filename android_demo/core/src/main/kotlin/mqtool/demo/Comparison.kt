package mqtool.demo

import mqruntime.Bundle
import mqruntime.Recognizer
import java.io.File
import java.util.concurrent.atomic.AtomicBoolean

/** What a bundle made of a recording. */
data class Compared(val bundle: String, val text: String, val seconds: Double, val bytes: Long, val score: Double?)

/** Two bundles on the same recording. */
object Comparison {
    /**
     * Run one after the other, so that only one is in memory; opening does not count as time.
     *
     * @param pcm at 16 kHz.
     * @param cancel as of [Recognizer.transcribe].
     * @param onText called with the bundle's index and its text so far; may throw to stop.
     */
    fun run(
        bundles: List<File>,
        pcm: FloatArray,
        cancel: AtomicBoolean? = null,
        onText: (Int, String) -> Unit = { _, _ -> },
    ): List<Compared> =
        bundles.mapIndexed { index, file ->
            val bundle = Bundle.open(file)
            Recognizer.openBundle(bundle).use { recognizer ->
                val result = recognizer.transcribe(pcm, cancel = cancel) { onText(index, it) }
                Compared(file.name, result.text, result.timings.values.sum(), bundle.manifest.modelBytes, result.score)
            }
        }
}
