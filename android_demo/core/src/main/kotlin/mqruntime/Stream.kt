package mqruntime

import java.util.concurrent.atomic.AtomicBoolean

/**
 * What was said in an utterance.
 *
 * @property text so far, or finally.
 * @property isFinal whether the utterance has ended; each one ends once. Until then its text may change.
 * @property start seconds from the beginning of the stream.
 * @property end likewise.
 * @property language ISO code, null where the model does not say.
 * @property score keyword models: probability of the label.
 */
data class StreamResult(
    val text: String,
    val isFinal: Boolean,
    val start: Double,
    val end: Double,
    val language: String?,
    val score: Double? = null,
)

/**
 * Recognizes live audio: chunks in, text out while it is being said; made by [Recognizer.stream]. For
 * one thread at a time.
 *
 * Speech is told from silence by loudness ([EnergyVad]). While somebody speaks, the utterance so far is
 * recognized again whenever `partialSeconds` more of it were heard, and once when it has ended. Memory
 * holds one utterance.
 *
 * @param language as of [Recognizer.transcribe].
 * @param options likewise.
 * @param vad when an utterance begins and ends.
 * @param partialSeconds null gives final texts only.
 * @param cancel as of [Recognizer.transcribe].
 * @param onStep called as the work goes on; may throw to end it.
 */
class Stream internal constructor(
    private val recognizer: Recognizer,
    private val language: String?,
    private val options: DecodingOptions,
    vad: VadSettings,
    partialSeconds: Double?,
    private val cancel: AtomicBoolean?,
    private val onStep: () -> Unit,
) {
    private val rate = recognizer.manifest.sampleRate
    private val vad = EnergyVad(rate, vad)
    private val partial = partialSeconds?.let { Math.rint(it * rate).toLong() }
    private var heardUntil = 0L // samples from the beginning of the stream

    /**
     * Take a chunk of PCM in, mono at the model's sample rate; any length, 0 too.
     *
     * @return final texts of the utterances that ended in it, then at most one text so far.
     */
    fun feed(chunk: FloatArray): List<StreamResult> {
        val heard = vad.feed(chunk).mapTo(ArrayList()) { hear(it, isFinal = true) }
        val current = vad.current()
        if (current == null || partial == null) return heard
        val end = current.start + current.pcm.size
        if (end - maxOf(heardUntil, current.start) >= partial) {
            heardUntil = end
            heard.add(hear(current, isFinal = false))
        }
        return heard
    }

    /** End the stream; the final text of what was being said, if anything was. */
    fun finish(): List<StreamResult> = vad.finish().map { hear(it, isFinal = true) }

    private fun hear(utterance: Utterance, isFinal: Boolean): StreamResult {
        onStep()
        val result = recognizer.transcribe(utterance.pcm, language, options, cancel) { onStep() }
        val start = utterance.start.toDouble() / rate
        val end = start + utterance.pcm.size.toDouble() / rate
        return StreamResult(result.text, isFinal, start, end, result.language, result.score)
    }
}
